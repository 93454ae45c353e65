"""What kills cost a run: `python -m benchmarks.chaos`.

Three hosts of their own addresses, a head without CPUs and two machines with one each. Run after run is disturbed at
random moments: a worker killed, a machine powered off and replaced, the driver killed and started again with
`--resume`, a machine drained with notice, then taken away and replaced; and once in each run a cable is cut, and nobody
is told. Runs take turns between one worker, whose every bit is compared with a run that nobody disturbed, and `[1, 2]`
workers, whose losses are compared with theirs: these train the head alone, without dropout or mixed photos, so that
all that may differ with the number of workers is the order of sums. Needs root and `tests/`. Prints a table, a run a
line, and one JSON object: whether every epoch is there once, steps repeated, seconds lost.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, conclude
from tests.e2e.cluster import drain_command, node_ids
from tests.e2e.command import kill, wait_until
from tests.e2e.hosts import Host, cluster_of, hosts, join, missing
from tests.photos import make_photos
from tests.processes import command_line
from tests.runs import epochs, settings, write_config

KINDS = ("worker", "machine", "driver", "drain")
NOTICE_S = 8.0
"""Between the notice that a machine is taken away, and its end."""
NOTICED_S = 120.0
"""How long a cable stays cut, at most: until the run goes on without that machine."""
BACK_S = 5.0
"""How long a machine whose cable is mended goes on with what it did, before it joins anew."""
INTERVAL_MIN = 0.1
SETTINGS: dict[str, dict[str, Any]] = {
    "1": {
        "train__batch_size_per_worker": 8,
        "model__frozen_stages": 4,
        "model__dropout": 0.2,
        "augment__mixup_alpha": 0.4,
    },
    "[1,2]": {"train__batch_size_per_worker": 4, "model__frozen_stages": 5, "train__cache_frozen": "off"},
}
"""What is trained by so many workers."""
LAST_LINES = 200
"""What is shown of what a run said that failed."""
NOISE = 0.01
"""How far losses of two or three may be from each other: bf16 keeps eight binary digits."""


@dataclass
class Outcome:
    """One run: what was done to it, and what became of it."""

    workers: str
    disturbed: dict[str, int]
    every_epoch_once: bool
    same_bits: bool | None
    largest_loss_difference: float
    seconds: float
    seconds_lost_each: float
    steps_repeated: int
    steps_repeated_after_notice: int


def main() -> None:
    """Run, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--kills", type=int, default=4, help="disturbances of each run, one of them a cut cable (4)")
    parser.add_argument(
        "--epochs", type=int, nargs=2, default=(40, 20), help="of a run on one worker, and of one on several (40 20)"
    )
    parser.add_argument("--every-s", type=float, default=12.0, help="time between two of them, at most (12)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if lack := missing():
        sys.exit(f"error: {lack}")
    draw, outcomes = random.Random(options.seed), list[Outcome]()
    with tempfile.TemporaryDirectory() as folder, hosts(3) as (head, *machines), cluster_of([head, *machines]):
        scene = Scene(head, machines, Path(folder), dict(zip(SETTINGS, options.epochs, strict=True)))
        whole = {workers: scene.undisturbed(workers) for workers in SETTINGS}
        for number in range(options.runs):
            workers = tuple(SETTINGS)[number % 2]
            outcome = scene.disturbed(number, workers, draw, options.kills, options.every_s, *whole[workers])
            outcomes.append(outcome)
            sys.stderr.write(f"{number:3d} {outcome}\n")
    result = {"runs": [asdict(outcome) for outcome in outcomes], "interval_min": INTERVAL_MIN}
    conclude(
        [
            Figure("runs with an epoch missing or twice", sum(not run.every_epoch_once for run in outcomes), "", 0),
            Figure("runs on one worker with other bits", sum(run.same_bits is False for run in outcomes), "", 0),
            Figure("farthest of an epoch's losses", max(run.largest_loss_difference for run in outcomes), "", NOISE),
            Figure("steps repeated after a notice", sum(run.steps_repeated_after_notice for run in outcomes), "", 0),
            Figure("lost by a disturbance, at most", max(run.seconds_lost_each for run in outcomes), "s"),
        ],
        result,
    )


class Scene:
    """Machines that come and go, and runs on them."""

    def __init__(self, head: Host, machines: list[Host], folder: Path, n_epochs: dict[str, int]) -> None:
        """Take hosts on which Ray runs, and draw the photos."""
        self._head, self._machines, self._folder, self._n_epochs = head, machines, folder, n_epochs
        self._photos = make_photos(folder / "photos", 40)

    def undisturbed(self, workers: str) -> tuple[Path, float]:
        """Train to the end. Returns the run and its seconds."""
        folder = self._folder / f"undisturbed-{workers}"
        child, began = self._start(folder, workers), time.monotonic()
        self._wait_for_end(child, folder)
        return folder / "runs" / "tiny", time.monotonic() - began

    def disturbed(
        self,
        number: int,
        workers: str,
        draw: random.Random,
        n_kills: int,
        every_s: float,
        whole: Path,
        whole_s: float,
    ) -> Outcome:
        """Train to the end through some disturbances, and compare with the run that is whole."""
        folder, done = self._folder / f"disturbed-{number}", Counter[str]()
        run = folder / "runs" / "tiny"
        child, began = self._start(folder, workers), time.monotonic()
        kinds = ["cut", *draw.choices(KINDS, k=n_kills - 1)]
        draw.shuffle(kinds)
        n_before = 0
        for kind in kinds:
            self._wait_for_workers(child, run, n_before)
            time.sleep(draw.uniform(1.0, every_s))
            if child.poll() is not None:
                break
            n_before = len(_document(run)["stretches"])
            child = self._disturb(kind, child, folder, workers, draw, n_before)
            done[kind] += 1
        self._wait_for_end(child, folder)
        seconds = time.monotonic() - began
        stretches = _document(run)["stretches"]
        after_notice = [s["steps_repeated"] for s in stretches if s["why"].endswith("being taken away")]
        return Outcome(
            workers=workers,
            disturbed=dict(done),
            every_epoch_once=epochs(run) == list(range(1, self._n_epochs[workers] + 1)),
            same_bits=_bits(run) == _bits(whole) if workers == "1" else None,
            largest_loss_difference=largest_difference(run, whole),
            seconds=round(seconds, 1),
            seconds_lost_each=round((seconds - whole_s) / max(1, done.total()), 1),
            steps_repeated=_document(run)["steps_repeated"],
            steps_repeated_after_notice=sum(after_notice),
        )

    def _disturb(
        self, kind: str, child: subprocess.Popen[str], folder: Path, workers: str, draw: random.Random, n_before: int
    ) -> subprocess.Popen[str]:
        if kind == "driver":
            kill(child)
            return self._start(folder, workers)
        if kind == "worker":
            for pid in [pid for host in self._machines for pid in _workers_on(host)][:1]:
                os.kill(pid, signal.SIGKILL)
            return child
        # Another one would be missed by nobody.
        host = draw.choice([host for host in self._machines if _workers_on(host)] or self._machines)
        if kind == "cut":
            run = folder / "runs" / "tiny"
            host.cut()
            until_s = time.monotonic() + NOTICED_S
            while not _has_begun(child, run, n_before) and time.monotonic() < until_s:
                time.sleep(1)
            host.mend()
            time.sleep(BACK_S)
        if kind == "drain":
            self._drain(host)
            time.sleep(NOTICE_S)
        join(self._head, [host])
        return child

    def _start(self, folder: Path, workers: str) -> subprocess.Popen[str]:
        folder.mkdir(exist_ok=True)
        changes = settings(
            train__workers=workers,
            train__epochs=self._n_epochs[workers],
            train__checkpoint_every_min=INTERVAL_MIN,
            **SETTINGS[workers],
        )
        config = write_config(folder, self._photos)
        log = (folder / "log.txt").open("a")
        child = self._head.start(sys.executable, "-m", "ray_trash", "train", config, *changes, "--resume")
        # Read by nobody else, the pipes would fill up and the command would wait for its reader.
        for pipe in (child.stdout, child.stderr):
            assert pipe is not None
            subprocess.Popen(["cat"], stdin=pipe, stdout=log, stderr=log)
        return child

    def _wait_for_workers(self, child: subprocess.Popen[str], run: Path, n_before: int) -> None:
        wait_until(lambda: _has_begun(child, run, n_before), timeout_s=300, what="the workers to begin")

    def _drain(self, host: Host) -> None:
        """Have Ray know that a machine is about to be taken away, as a cloud's autoscaler does of a spot machine."""
        (node_id,) = {node_id for pid in host.pids() for node_id in node_ids(pid)}
        done = self._head.run(*drain_command(host.environment["RAY_ADDRESS"], node_id))
        if done.returncode != 0:
            raise SystemExit(f"ray drain-node: {done.stderr}")

    def _wait_for_end(self, child: subprocess.Popen[str], folder: Path) -> None:
        wait_until(lambda: child.poll() is not None, timeout_s=900, what="the run's end")
        if child.returncode != 0:
            said = (folder / "log.txt").read_text().splitlines()[-LAST_LINES:]
            raise SystemExit("\n".join([*said, f"a run ended with exit code {child.returncode}"]))


def _workers_on(host: Host) -> list[int]:
    """List the processes there that train."""
    return [pid for pid in host.pids() if "RayTrainWorker" in command_line(pid)]


def _has_begun(child: subprocess.Popen[str], run: Path, n_before: int) -> bool:
    """Say whether workers have started since there were so many stretches, or the run is over."""
    return child.poll() is not None or len(_document(run).get("stretches", [])) > n_before


def _document(run: Path) -> dict[str, Any]:
    path = run / "run.json"
    document: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return document


def _losses(run: Path) -> list[tuple[float, float]]:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(record["train_loss"], record["val_loss"]) for record in records]


def largest_difference(run: Path, other: Path) -> float:
    """Return how far the losses of two runs' epochs are from each other, at most."""
    pairs = zip(_losses(run), _losses(other), strict=True)
    return max(abs(a - b) for ours, theirs in pairs for a, b in zip(ours, theirs, strict=True))


def _bits(run: Path) -> tuple[list[tuple[float, float]], bytes]:
    newest = max(path for path in (run / "checkpoints").iterdir() if path.name.startswith("epoch-"))
    return _losses(run), (newest / "weights.safetensors").read_bytes()


if __name__ == "__main__":
    main()
