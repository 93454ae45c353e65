"""What `run.json` says of a start, of a training or of a sweep, from its beginning to whatever its end."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from ray_trash.errors import RayTrashError, StorageError
from ray_trash.storage import Storage
from ray_trash.train.run_directory import has_run, read_run, update_run
from ray_trash.train.state import package_versions


@contextmanager
def recorded(run: Storage, kind: str, *, overwrite: bool, say: Callable[[str], None]) -> Iterator[str]:
    """Record in `run.json` that the block runs, and how it ended: in words, and the name of the error's class.

    Yields the attempt: a name for this start, which fences off workers of earlier ones.
    """
    attempt, exists = secrets.token_hex(8), has_run(run)
    begun = {"status": "running", "attempt": attempt, "started_at": _now(), "ended_at": None}
    try:
        if exists and overwrite:
            for name in run.list_names():
                run.remove(name)
        update_run(run, {**begun, "versions": package_versions()})
    except StorageError as error:
        raise StorageError(f"storage: {error}; set storage to a place that can be written") from error
    say(f"{kind} {run.uri}" + (", going on" if exists and not overwrite else ""))
    started = time.monotonic()

    def end(status: str, reason: str | None = None, error_kind: str | None = None) -> None:
        if read_run(run).get("attempt") == attempt:  # or another start has taken over, and the record is its own
            ended = {"status": status, "ended_at": _now(), "seconds": round(time.monotonic() - started, 1)}
            update_run(run, {**ended, "reason": reason, "error_kind": error_kind})

    try:
        yield attempt
    except BaseException as error:
        kind = type(error).__name__
        status = "failed" if isinstance(error, Exception) else "interrupted"
        end(status, str(error) if isinstance(error, RayTrashError) else kind, kind)
        raise
    end("done")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
