"""What a checkpoint costs training: `python -m benchmarks.checkpoint_cost`.

The same ResNet50 is trained twice, in turns, in this process and without Ray: with checkpoints written beside training,
as `ray-trash` writes them, and with the training standing still until each is written. A checkpoint within the epoch
is made every `--every-s`, and one at its end. Seconds that training stood still for each checkpoint, seconds of an
epoch, and their ratios.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.figures import conclude, ratio
from ray_trash.config import Config
from ray_trash.dataset.stream import MemoryPhotos, PhotoTable
from ray_trash.storage import Storage
from ray_trash.train import loop, saving
from ray_trash.train.board import Board
from ray_trash.train.job import TrainJob
from ray_trash.train.progress import EpochProgress
from ray_trash.train.run_directory import update_run
from ray_trash.train.state import seeded_network
from ray_trash.train.worker import Worker


class Photos(MemoryPhotos):
    """Random photos, held without Ray."""

    def __init__(self, n: int, size_px: int) -> None:
        """Draw them."""
        super().__init__([], n_threads=1)
        random = np.random.default_rng(0)
        self._photos = {row: random.integers(0, 256, (size_px, size_px, 3), dtype=np.uint8) for row in range(n)}


class Beside(saving.Writer):
    """Counts what it writes."""

    n_written = 0

    def start(self, write: Callable[[], None]) -> None:
        """Begin to write."""
        type(self).n_written += 1
        super().start(write)


class Instead(Beside):
    """Writes instead of training, not beside it."""

    def start(self, write: Callable[[], None]) -> None:
        """Write, and wait."""
        super().start(write)
        self.wait()


class TimedSaver(saving.Saver):
    """Adds up how long training stands still."""

    stood_still_s = 0.0

    def go_on(self, progress: EpochProgress, steps_left: int, settle: Callable[[], None]) -> bool:
        """As it is."""
        with timed():
            return super().go_on(progress, steps_left, settle)

    def save_epoch(self, announce: Callable[[], None]) -> bool:
        """As it is."""
        with timed():
            return super().save_epoch(announce)


@contextmanager
def timed() -> Iterator[None]:
    """Count the block as standing still."""
    began = time.perf_counter()
    yield
    TimedSaver.stood_still_s += time.perf_counter() - began


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="times each side trains (3)")
    parser.add_argument("--steps", type=int, default=16, help="of an epoch (16)")
    parser.add_argument("--size-px", type=int, default=96)
    parser.add_argument("--frozen-stages", type=int, default=0)
    parser.add_argument("--every-s", type=float, default=8.0)
    parser.add_argument("--threads", type=int, default=1, help="that compute (1)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sides: dict[str, list[tuple[float, float]]] = {"beside": [], "instead": []}
    for _ in range(options.rounds):
        for side, measured in sides.items():
            measured.append(measure(Instead if side == "instead" else Beside, options))
    result = {
        side: {
            "stood_still_s_per_checkpoint": round(statistics.median(stall for stall, _ in measured), 3),
            "epoch_s": round(statistics.median(epoch for _, epoch in measured), 2),
        }
        for side, measured in sides.items()
    }
    stalls, epochs = ([result[side][name] for side in sides] for name in ("stood_still_s_per_checkpoint", "epoch_s"))
    conclude(
        [
            ratio("standing still for a checkpoint, beside over instead", stalls[0], stalls[1], "s", at_most=1.0),
            ratio("an epoch with checkpoints, beside over instead", epochs[0], epochs[1], "s"),
        ],
        result,
    )


def measure(writer: type[Beside], options: argparse.Namespace) -> tuple[float, float]:
    """Train three epochs. Returns seconds of standing still for each checkpoint, and of an epoch."""
    n_train, n_val, batch = 8 * options.steps, 8, 8
    config = Config.model_validate(
        {
            "name": "cost",
            "data": {"root": "unused"},
            "image": {"size_px": options.size_px, "stored_short_side_px": options.size_px},
            "model": {"weights": "none", "frozen_stages": options.frozen_stages},
            "train": {
                "workers": 0,
                "epochs": 3,
                "batch_size_per_worker": batch,
                "checkpoint_every_min": options.every_s / 60,
                "precision": "fp32",
            },
        }
    )

    def table(first: int, n: int) -> PhotoTable:
        rows = np.arange(first, first + n)
        return PhotoTable(rows, tuple(map(str, rows)), rows % 2, rows.astype(np.uint64))

    TimedSaver.stood_still_s, writer.n_written, ended = 0.0, 0, list[float]()
    with tempfile.TemporaryDirectory() as folder:
        update_run(Storage.at(folder), {"attempt": "a"})
        job = TrainJob(
            config=config,
            train=table(0, n_train),
            val=table(n_train, n_val),
            classes=("glass", "paper"),
            root="unused",
            data={"fingerprint": "", "trained_on": ""},
            run_uri=str(Path(folder)),
            attempt="a",
            in_memory=True,
            device="cpu",
            board=Board(),
        )
        initial = seeded_network(config, 2).state_dict()
        worker, photos = Worker(0, 1, torch.device("cpu"), torch.float32), Photos(n_train + n_val, options.size_px)
        with patch.object(saving, "Writer", writer), patch.object(loop, "Saver", TimedSaver):
            began = time.perf_counter()
            loop.train(job, initial, worker, photos, lambda _: ended.append(time.perf_counter()))
    return TimedSaver.stood_still_s / writer.n_written, (ended[-1] - began) / len(ended)


if __name__ == "__main__":
    main()
