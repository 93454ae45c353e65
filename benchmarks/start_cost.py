"""What a command costs before it does anything: `python -m benchmarks.start_cost --before CHECKOUT`.

Every command works on few photos, so that next to all of its time is its start: imports, Ray, the network. With another
checkout of this repository both are timed in turn, and each figure is the median of ours over the median of theirs.
Prints a table, and ends with 1 where, against another checkout, one is above its limit.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures import Figure, conclude, ratio
from benchmarks.serving import progress
from ray_trash.fetch.sample import CLASSES, render_sample

PHOTOS = 36
MOST_OF_BEFORE = 0.5
COMMAND_TIMEOUT_S = 300
_CONFIG = """
name: few
image: {{size_px: 64, stored_short_side_px: 72}}
model: {{weights: none, frozen_stages: 5}}
train: {{workers: 0, epochs: 1, batch_size_per_worker: 8}}
data: {{root: "{photos}"}}
storage: "{storage}"
"""
_HERE = Path(__file__).parents[1]


def main() -> None:
    """Time every command, round by round, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, metavar="CHECKOUT", help="another checkout, to compare with")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    sides = [_HERE, *([options.before.resolve()] if options.before else [])]
    seconds: dict[tuple[str, Path], list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder) / "photos"
        render_sample(photos, per_class=PHOTOS // len(CLASSES))
        for number in range(options.rounds):
            for side in sides:
                for what, each in timed(side, photos, Path(folder) / f"{number}-{sides.index(side)}").items():
                    progress(f"{side.name}: {what} {each:.2f} s")
                    seconds[what, side].append(each)
    medians = {key: statistics.median(each) for key, each in seconds.items()}
    commands = dict.fromkeys(what for what, _ in medians)
    conclude(
        ratio(f"seconds: {what}", medians[what, _HERE], medians[what, sides[1]], "s", at_most=MOST_OF_BEFORE)
        if options.before
        else Figure(f"seconds: {what}", medians[what, _HERE], "s")
        for what in commands
    )


def timed(side: Path, photos: Path, folder: Path) -> dict[str, float]:
    """Return how long each command of a checkout takes, in seconds."""
    folder.mkdir()
    config, checkpoint = folder / "few.yaml", folder / "few" / "checkpoint"
    config.write_text(_CONFIG.format(photos=photos, storage=folder))
    one = next(photos.rglob("*.jpg"))
    lines: dict[str, Sequence[str | Path]] = {
        "--help": ["--help"],
        f"run of {PHOTOS} photos": ["run", config],
        f"evaluate {PHOTOS} photos": [
            "evaluate",
            checkpoint,
            "--data",
            photos,
            "--split",
            "all",
            "--out",
            folder / "all",
        ],
        "score one photo": ["score", checkpoint, one, "--out", folder / "scores.csv"],
        f"audit {PHOTOS} photos": ["audit", photos],
    }
    found = {what: seconds_of(side, [str(word) for word in line], folder) for what, line in lines.items()}
    return {**found, "serve until ready": seconds_until_ready(side, checkpoint, folder)}


def seconds_of(side: Path, line: list[str], folder: Path) -> float:
    """Run a command of a checkout to its end."""
    began_s = time.monotonic()
    command = [sys.executable, "-m", "ray_trash", *line]
    done = subprocess.run(
        command, cwd=folder, env=environment(side), capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S
    )
    if done.returncode:
        sys.exit(f"{side}: {' '.join(line)}: {done.returncode}\n{done.stderr}")
    return time.monotonic() - began_s


def seconds_until_ready(side: Path, checkpoint: Path, folder: Path) -> float:
    """Start an endpoint of a checkout, and end it once it answers."""
    command = [sys.executable, "-m", "ray_trash", "serve", str(checkpoint), "--port", "0"]
    log = folder / "log"
    began_s = time.monotonic()
    with log.open("w") as file:
        child = subprocess.Popen(command, cwd=folder, env=environment(side), stderr=file)
    try:
        while not re.search(r"ready: http", log.read_text()):
            if child.poll() is not None or time.monotonic() > began_s + COMMAND_TIMEOUT_S:
                sys.exit(f"{side}: serve: {log.read_text()}")
            time.sleep(0.02)
        return time.monotonic() - began_s
    finally:
        child.terminate()
        child.wait(COMMAND_TIMEOUT_S)


def environment(side: Path) -> dict[str, str]:
    """Have Python find a checkout's code before that which is installed."""
    return {**os.environ, "PYTHONPATH": str(side)}


if __name__ == "__main__":
    main()
