"""The files of one run, so that a kill at any moment leaves a run that can go on.

```
checkpoints/epoch-003-val_loss-0.4321/   the newest epochs and the best, complete or not counted
checkpoints/within-epoch-004-step-00120/ the newest within an epoch, for resume alone; gone at the epoch's end
checkpoint/                              the best one, servable
metrics.jsonl                            rewritten whole from the checkpoint's own history
run.json                                 status, and which start of the run may write
```

Knows where things are and in which order they are written, not what they mean.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray_trash.errors import CheckpointError, ConfigError, StorageError
from ray_trash.model.checkpoint import MARKER, Checkpoint, open_checkpoint, read_trainer_part
from ray_trash.storage import Storage, sync_directory

CHECKPOINTS = "checkpoints"
BEST = "checkpoint"
METRICS = "metrics.jsonl"
CONFIG_YAML = "config.yaml"
AUGMENTATION_SHEET = "augmentation.png"
RUN = "run.json"
RAY = "ray"
_EPOCH_NAME = re.compile(r"epoch-\d+-")
_WITHIN_NAME = re.compile(r"within-epoch-(\d+)-step-(\d+)")


def epoch_name(epoch: int, metric: str, value: float) -> str:
    """Name the checkpoint of an epoch, from 1, after a loss."""
    return f"epoch-{epoch:03d}-{metric}-{value:.4f}"


def within_name(epoch: int, step: int) -> str:
    """Name the checkpoint within an epoch, from 1, after so many steps of it."""
    return f"within-epoch-{epoch:03d}-step-{step:05d}"


def refuse_existing(run: Storage, *, resume: bool, overwrite: bool) -> None:
    """Refuse a name that has a run already, unless it was said what to do with it, and a demand for both."""
    if resume and overwrite:
        raise ConfigError("--resume and --overwrite exclude each other: go on with the run, or remove it")
    if has_run(run) and not resume and not overwrite:
        raise ConfigError(
            f"{run.uri}: there is a run of this name already; go on with --resume, start it anew with "
            "--overwrite, or choose another with --set name=..."
        )


def refuse_data_inside(run: Storage, data: Storage) -> None:
    """Refuse a data root in the run's own folder, which `--overwrite` empties."""
    own, photos = (os.path.realpath(place.path) if place.is_local else place.path for place in (run, data))
    if run.filesystem.equals(data.filesystem) and f"{photos}/".startswith(f"{own}/"):
        raise ConfigError(f"{run.uri}: the run's folder would hold data.root, {data.uri}; set another name or storage")


def has_run(run: Storage) -> bool:
    """Say whether there is a run to go on with."""
    return run.exists(RUN) or run.exists(CHECKPOINTS)


def read_run(run: Storage) -> dict[str, Any]:
    """Read `run.json`."""
    document: dict[str, Any] = json.loads(run.read_bytes(RUN))
    return document


def update_run(run: Storage, changes: Mapping[str, Any]) -> None:
    """Change fields of `run.json`."""
    document = read_run(run) if run.exists(RUN) else {}
    run.write_bytes(RUN, (json.dumps({**document, **changes}, indent=2) + "\n").encode())


def require_attempt(run: Storage, attempt: str) -> None:
    """Refuse to write into a run that another start has taken over: `run.json` then names its attempt."""
    if read_run(run).get("attempt") != attempt:
        raise StorageError(f"{run.uri}: another start of this run has taken over; this one stops")


def write_metrics(run: Storage, history: Sequence[Mapping[str, Any]]) -> None:
    """Write one line an epoch, the whole file at once."""
    run.write_bytes(METRICS, "".join(json.dumps(record) + "\n" for record in history).encode())


def read_metrics(run: Storage) -> list[dict[str, Any]]:
    """Read the epochs that a run has trained, none where there is no file yet."""
    return [json.loads(line) for line in run.read_bytes(METRICS).splitlines()] if run.exists(METRICS) else []


def checkpoint_names(run: Storage) -> list[str]:
    """List the checkpoints of epochs, complete or not, oldest first."""
    names = [name for name in run.child(CHECKPOINTS).list_names() if _EPOCH_NAME.match(name)]
    return sorted(names, key=_epoch_of)


def _epoch_of(name: str) -> int:
    return int(name.split("-")[1])


def within_names(run: Storage) -> list[str]:
    """List the checkpoints within epochs, complete or not, oldest first."""
    names = [name for name in run.child(CHECKPOINTS).list_names() if _WITHIN_NAME.fullmatch(name)]
    return sorted(names, key=place_within)


def place_within(name: str) -> tuple[int, int]:
    """Return the epoch, from 1, and its steps that a checkpoint within it is named after."""
    found = _WITHIN_NAME.fullmatch(name)
    assert found, name
    return int(found[1]), int(found[2])


def newest_complete(run: Storage, say: Callable[[str], None]) -> Checkpoint | None:
    """Open the newest checkpoint that is complete, naming those passed over."""
    for name in reversed(checkpoint_names(run)):
        try:
            return open_checkpoint(run.child(CHECKPOINTS, name), with_trainer=True)
        except CheckpointError as error:
            say(f"passed over: {error}")
    return None


@dataclass(frozen=True)
class Within:
    """A complete checkpoint within an epoch, from 1, and what `read_trainer_part` gave of it."""

    name: str
    epoch: int
    saved: Mapping[str, Any]


def newest_within(run: Storage, say: Callable[[str], None]) -> Within | None:
    """Read the newest checkpoint within an epoch that is complete, naming those passed over."""
    for name in reversed(within_names(run)):
        try:
            return Within(name, place_within(name)[0], read_trainer_part(run.child(CHECKPOINTS, name)))
        except CheckpointError as error:
            say(f"passed over: {error}")
    return None


def publish(run: Storage, name: str, write: Callable[[Path], None]) -> None:
    """Have `write` fill a local folder, the marker last, and make it appear as an epoch's checkpoint, whole."""
    for stale in checkpoint_names(run):
        # Left by an attempt that was killed, or by a start whose newest checkpoint was damaged.
        if _epoch_of(stale) >= _epoch_of(name):
            _discard(run, f"{CHECKPOINTS}/{stale}")
    _put_in_place(run, name, write)
    for passed in within_names(run):
        _discard(run, f"{CHECKPOINTS}/{passed}")


def publish_within(run: Storage, name: str, write: Callable[[Path], None]) -> None:
    """Have `write` fill a local folder, the marker last, and make it the one checkpoint within an epoch."""
    _discard(run, f"{CHECKPOINTS}/{name}")  # there is one only if it is damaged
    _put_in_place(run, name, write)
    for passed in within_names(run):
        if passed != name:
            _discard(run, f"{CHECKPOINTS}/{passed}")


def _put_in_place(run: Storage, name: str, write: Callable[[Path], None]) -> None:
    target = f"{CHECKPOINTS}/{name}"
    if run.is_local:
        partial = run.local_path() / CHECKPOINTS / f".{name}"
        for leftover in [path for kind in ("epoch", "within") for path in partial.parent.glob(f".{kind}-*")]:
            shutil.rmtree(leftover, ignore_errors=True)
        try:
            write(partial)
            partial.rename(run.local_path() / target)
            sync_directory(partial.parent)
        except OSError as error:
            raise StorageError(f"{run.uri}/{target}: cannot write: {error.strerror}") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    else:
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder))
            run.upload(Path(folder), target, last=MARKER)


def _set_best(run: Storage, name: str) -> None:
    # A kill inside leaves a `checkpoint/` that is the old one, the new one, or refused as incomplete; the next start
    # repairs it.
    if run.is_local:
        base = run.local_path()
        fresh, old = base / f".{BEST}.new", base / f".{BEST}.old"
        try:
            for leftover in (fresh, old):
                shutil.rmtree(leftover, ignore_errors=True)
            _link_or_copy_tree(base / CHECKPOINTS / name, fresh)
            if (base / BEST).exists():
                (base / BEST).rename(old)
            fresh.rename(base / BEST)
            sync_directory(base)
            shutil.rmtree(old, ignore_errors=True)
        except OSError as error:
            raise StorageError(f"{run.uri}/{BEST}: cannot write: {error.strerror}") from error
    else:
        run.remove(f"{BEST}/{MARKER}")
        run.copy(f"{CHECKPOINTS}/{name}", BEST, last=MARKER)


def _link_or_copy_tree(source: Path, target: Path) -> None:
    for file in [path for path in source.rglob("*") if path.is_file()]:
        copy = target / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        try:
            # Published files are never changed in place, so sharing their bytes is safe and free.
            os.link(file, copy)
        except OSError:
            shutil.copyfile(file, copy)  # without mode and times, which not every file system lets one set


def repair_best(run: Storage, best: str | None) -> None:
    """Make `checkpoint/` a copy of the best epoch's checkpoint, unless it is one."""
    if best is None or not run.exists(f"{CHECKPOINTS}/{best}"):
        return
    wanted = run.child(CHECKPOINTS, best).read_bytes(MARKER)
    if not run.exists(f"{BEST}/{MARKER}") or run.child(BEST).read_bytes(MARKER) != wanted:
        _set_best(run, best)


def prune(run: Storage, *, keep: int | None, best: str | None) -> None:
    """Remove the checkpoints that neither resume nor the best epoch needs; `keep` None keeps all."""
    if keep is None:
        return
    for name in checkpoint_names(run)[:-keep]:
        if name != best:
            _discard(run, f"{CHECKPOINTS}/{name}")


def _discard(run: Storage, target: str) -> None:
    # Without its marker first, a removal that is cut short leaves something no reader takes.
    run.remove(f"{target}/{MARKER}")
    run.remove(target)
