"""What exchanges of the model leave behind: `python -m benchmarks.exchange_memory`.

An endpoint watches a run whose checkpoint is exchanged for another one and back, `--exchanges` times, while requests
are answered; then come `--refused` checkpoints that are not good. After each, the memory of all its processes is
measured (PSS: what several share counts once). Prints one JSON object: MiB after the third exchange, after the last,
and after the refusals.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil

from benchmarks.answering import photos_of, write_random_checkpoint
from ray_trash.model.checkpoint import MARKER
from ray_trash.serve.child import endpoint

THIRD = 3
EXCHANGE_TIMEOUT_S = 180.0
SETTLED_S = 8.0
"""How long after an exchange the processes of the model before have gone."""
_LOOK_S = 0.5


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exchanges", type=int, default=50)
    parser.add_argument("--refused", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, photos_of(None, 1) as (photo,):
        folder = Path(name)
        for seed in (0, 1, 2):
            write_random_checkpoint(folder / str(seed), seed=seed, is_good=seed < 2)
        run = folder / "run"
        _publish(folder / "0", run)
        with (
            endpoint("--watch", str(run), "--set", "serve.watch_interval_s=0.5") as child,
            _asking(child.url, photo.read_bytes()) as statuses,
        ):
            mebibytes = []
            for number in range(1, options.exchanges + 1):
                _publish_and_wait(child.url, "done", folder / str(number % 2), run)
                time.sleep(SETTLED_S)
                mebibytes.append(_memory_mib(child.pid))
                sys.stderr.write(f"exchange {number}: {mebibytes[-1]:.0f} MiB\n")
            for number in range(1, options.refused + 1):
                _publish_and_wait(child.url, "refused", folder / "2", run, mark=number)
            time.sleep(SETTLED_S)
            after_refused = _memory_mib(child.pid)
    result = {
        "exchanges": options.exchanges,
        "refused": options.refused,
        "mib_after_third": round(mebibytes[min(THIRD, len(mebibytes)) - 1]),
        "mib_after_last": round(mebibytes[-1]),
        "mib_after_refused": round(after_refused),
        "statuses": dict(statuses),
    }
    sys.stdout.write(json.dumps(result) + "\n")


def _publish(checkpoint: Path, run: Path, *, mark: int = 0) -> None:
    # As a run does: whole, and in one step. A marker of other bytes is another checkpoint to whoever watches.
    new = run / "new"
    shutil.copytree(checkpoint, new)
    marker = new / MARKER
    marker.write_text(marker.read_text() + "\n" * mark)
    if (run / "checkpoint").exists():
        (run / "checkpoint").rename(run / "old")
    new.rename(run / "checkpoint")
    shutil.rmtree(run / "old", ignore_errors=True)


def _publish_and_wait(url: str, outcome: str, checkpoint: Path, run: Path, *, mark: int = 0) -> None:
    def attempt() -> dict[str, str]:
        return dict(httpx.get(f"{url}/v1/model", timeout=60).json()["swap"])

    before = attempt().get("at")
    _publish(checkpoint, run, mark=mark)
    deadline_s = time.monotonic() + EXCHANGE_TIMEOUT_S
    while (now := attempt()).get("at") == before or now["status"] != outcome:
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"no checkpoint was {outcome} for {EXCHANGE_TIMEOUT_S:g} s: {now}")
        time.sleep(_LOOK_S)


@contextlib.contextmanager
def _asking(url: str, photo: bytes) -> Iterator[Counter[int]]:
    statuses: Counter[int] = Counter()
    over = threading.Event()

    def ask() -> None:
        with httpx.Client(timeout=60) as client:
            while not over.wait(0.05):
                answer = client.post(f"{url}/v1/score", content=photo, headers={"content-type": "image/jpeg"})
                statuses[answer.status_code] += 1

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield statuses
    finally:
        over.set()
        thread.join()


def _memory_mib(session: int) -> float:
    total = 0
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getsid(process.pid) == session:
                total += process.memory_full_info().pss
    return total / 2**20


if __name__ == "__main__":
    main()
