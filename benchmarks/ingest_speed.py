"""How fast streamed photos come: `python -m benchmarks.ingest_speed`.

Two questions, each with both sides in one run that take turns, so that a machine whose speed drifts drifts for both:

- Photos that nobody trains on, read, decoded and augmented by the same functions in the same order: as `ray-trash`
  streams them, to a process that reserves what a training worker does, and by torch's own `DataLoader` with as many
  processes as there are processors, which live as long as the side does. First epochs warm up and are not counted, nor
  are last ones, after which nothing is expected any more. `first_batch_s` is the longest wait for the first batch of a
  later epoch.
- Training with every stage frozen, streamed and from memory: photos per second of every epoch but the first, in which
  waiting for photos counts. Validation does not count, but of a short epoch is much: a stream decodes a third as many
  photos again for it, and those of `--training-photos 1600` are a whole epoch of TrashNet.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from benchmarks.figures import Figure, conclude, ratio
from ray_trash.cluster.capacity import plan_workers
from ray_trash.cluster.connect import ray_session
from ray_trash.cluster.shares import usable_cpus
from ray_trash.cluster.waiting import fetch
from ray_trash.config import AugmentConfig, Config, TrainConfig, override
from ray_trash.dataset.listing import list_photos
from ray_trash.dataset.read import PhotoFolder
from ray_trash.dataset.stream import Batches, PhotoTable, Transform
from ray_trash.fetch.sample import CLASSES, render_sample
from ray_trash.image.preprocess import Preprocessing
from ray_trash.terminal.say import Terminal
from ray_trash.train.run import prepare_run, run_training
from ray_trash.train.start import build_source

TURN_S = 600.0
"""How long one turn may take."""


def main() -> None:
    """Measure, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="a data root (rendered photos of the size of TrashNet's)")
    parser.add_argument("--photos", type=int, default=1600, help="at most so many of it (1600)")
    parser.add_argument("--rounds", type=int, default=3, help="times each side is taken, in turn (3)")
    parser.add_argument("--epochs", type=int, default=6, help="epochs of one turn, at least 3 (6)")
    parser.add_argument("--batch-photos", type=int, default=32)
    parser.add_argument("--size-px", type=int, default=192)
    parser.add_argument("--training-photos", type=int, default=320, help="of an epoch; 0 leaves training out (320)")
    options = parser.parse_args()
    if options.epochs < 3:
        parser.error("--epochs: at least 3, of which the first and the last are not counted")
    with tempfile.TemporaryDirectory() as folder:
        root = options.data or str(Path(folder) / "photos")
        if options.data is None:
            render_sample(Path(root), per_class=-(-options.photos // len(CLASSES)))
        photos = Photos.of(root, options.photos, options.batch_photos, options.size_px)
        streamed, loaded = Side(), Side()
        with ray_session(dashboard=False):
            plan = plan_workers(TrainConfig(workers=1, device="cpu"), ray.cluster_resources(), machines=1)
            stream: Any = ray.remote(num_cpus=plan.cpus_per_worker)(stream_side)
            for _ in range(options.rounds):
                loaded.measure(photos, loader_epochs(photos, options.epochs))
                streamed.add(fetch(stream.remote(photos, options.epochs), what="a turn", timeout_s=TURN_S))
                said = (f"{side.photos_per_s[-1]:.0f}" for side in (streamed, loaded))
                sys.stderr.write("streamed {}, loaded {} photos/s\n".format(*said))
            result: dict[str, Any] = {
                "streamed_photos_per_s": round(statistics.median(streamed.photos_per_s), 1),
                "loader_photos_per_s": round(statistics.median(loaded.photos_per_s), 1),
                "streamed_to_loader": streamed.ratio_to(loaded),
                "first_batch_s": round(max(streamed.first_batch_s), 3),
                "loader_first_batch_s": round(max(loaded.first_batch_s), 3),
            }
            if options.training_photos:
                result |= training_speeds(photos, options, Path(folder))
    result |= {"photos": len(photos.table), "size_px": options.size_px, "cpus": usable_cpus(), "rounds": options.rounds}
    figures = [
        ratio(
            "streamed photos over torch's loader",
            result["streamed_photos_per_s"],
            result["loader_photos_per_s"],
            value=result["streamed_to_loader"],
            at_least=0.9,
        ),
        Figure("first batch of a later epoch", result["first_batch_s"], "s", at_most=0.3),
    ]
    if options.training_photos:
        figures.append(
            ratio(
                "training streamed over training from memory",
                result["trained_streamed_photos_per_s"],
                result["trained_from_memory_photos_per_s"],
                value=result["trained_streamed_to_from_memory"],
                at_least=0.95,
            )
        )
    conclude(figures, result)


@dataclass(frozen=True)
class Photos(Dataset[NDArray[np.uint8]]):
    """Some photos of a data root as training sees them; a dataset of torch's, by epoch and photo."""

    folder: PhotoFolder
    table: PhotoTable
    batch_photos: int
    preprocessing: Preprocessing

    @classmethod
    def of(cls, root: str, n: int, batch_photos: int, size_px: int) -> Photos:
        """Choose at most `n` photos at random."""
        paths = list_photos(root).files["path"].to_pylist()
        chosen = tuple(random.Random(0).sample(paths, min(n, len(paths))))
        rows = np.arange(len(chosen))
        table = PhotoTable(rows, chosen, np.zeros(len(chosen), np.int64), rows.astype(np.uint64))
        return cls(PhotoFolder.at(root), table, batch_photos, Preprocessing(size_px, max(256, size_px), "stretch"))

    def batches(self, epoch: int) -> Batches:
        """Cut an epoch's order into batches."""
        order = np.random.default_rng([0, epoch]).permutation(len(self.table))
        return [order[start : start + self.batch_photos] for start in range(0, len(order), self.batch_photos)]

    def transform(self, epoch: int) -> Transform:
        """Say what happens to a photo in an epoch."""
        return Transform(self.preprocessing, AugmentConfig(), seed=0, epoch=epoch)

    def __getitem__(self, drawn: tuple[int, int]) -> NDArray[np.uint8]:
        """Return a photo as it is in an epoch."""
        epoch, position = drawn
        photo = self.folder.load(self.table.paths[position], self.preprocessing)
        return self.transform(epoch)(photo, int(self.table.keys[position]))

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.table)


@dataclass
class Side:
    """What was measured of one side: of every turn, and of every epoch but the first."""

    photos_per_s: list[float] = field(default_factory=list)
    first_batch_s: list[float] = field(default_factory=list)

    def measure(self, photos: Photos, epochs: Iterator[Iterable[Any]]) -> None:
        """Take everything, and measure it from the second epoch's first batch to the last one's.

        What was made ahead of either is the same then.
        """
        begun = list[float]()
        for epoch, batches in enumerate(epochs):
            asked = time.perf_counter()
            for number, _ in enumerate(batches):
                if number == 0 and epoch:
                    begun.append(time.perf_counter())
                    self.first_batch_s.append(begun[-1] - asked)
        self.photos_per_s.append(len(photos.table) * (len(begun) - 1) / (begun[-1] - begun[0]))

    def add(self, other: Side) -> None:
        """Add what was measured elsewhere."""
        self.photos_per_s += other.photos_per_s
        self.first_batch_s += other.first_batch_s

    def ratio_to(self, other: Side) -> float:
        """Return the median of the ratios of turns that were side by side."""
        pairs = zip(self.photos_per_s, other.photos_per_s, strict=True)
        return round(statistics.median(own / others for own, others in pairs), 3)


def stream_side(photos: Photos, n_epochs: int) -> Side:
    """Measure one turn of photos that are streamed to this process."""
    side = Side()
    side.measure(photos, stream_epochs(photos, n_epochs))
    return side


def stream_epochs(photos: Photos, n: int) -> Iterator[Iterable[Any]]:
    """Yield the batches of epochs as a training streams them."""
    with closing(build_source(photos.folder.storage.uri, None, torch.device("cpu"))) as source:
        for epoch in range(n):
            if epoch + 1 < n:
                source.expect(photos.table, photos.batches(epoch + 1), photos.transform(epoch + 1))
            yield source.batches(photos.table, photos.batches(epoch), photos.transform(epoch))


class _Epochs:
    """A batch sampler whose epochs go on."""

    def __init__(self, photos: Photos) -> None:
        self._photos, self._epoch = photos, -1

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        self._epoch += 1
        for positions in self._photos.batches(self._epoch):
            yield [(self._epoch, int(position)) for position in positions]

    def __len__(self) -> int:
        return len(self._photos.batches(0))


def loader_epochs(photos: Photos, n: int) -> Iterator[Iterable[Any]]:
    """Yield the batches of epochs as torch's own loader gives them."""
    loader = DataLoader(
        photos,
        batch_sampler=_Epochs(photos),
        num_workers=usable_cpus(),
        persistent_workers=True,
        # A fork of this process would inherit its threads' locks.
        multiprocessing_context=multiprocessing.get_context("spawn"),
    )
    for _ in range(n):
        yield loader


def training_speeds(photos: Photos, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Train in turn from memory and streamed, with every stage frozen."""
    config = Config.model_validate(
        {
            "name": "ingest",
            "storage": str(folder / "runs"),
            "data": {"root": photos.folder.storage.uri, "val_fraction": 0.05, "test_fraction": 0.05},
            "image": {"size_px": options.size_px, "stored_short_side_px": 256},
            "model": {"weights": "none", "frozen_stages": 5},
            "train": {
                "workers": 1,
                "epochs": options.epochs,
                "steps_per_epoch": -(-options.training_photos // options.batch_photos),
                "batch_size_per_worker": options.batch_photos,
                "schedule": "constant",
                "cache_frozen": "off",
            },
        }
    )
    speeds: dict[str, list[float]] = {"memory": [], "stream": []}
    for turn in range(options.rounds):
        for cache, found in speeds.items():
            found.append(statistics.median(train(config, {"name": f"{cache}-{turn}", "data.cache": cache})))
        sys.stderr.write(", ".join(f"trained from {cache}: {found[-1]:.1f}" for cache, found in speeds.items()) + "\n")
    pairs = zip(speeds["stream"], speeds["memory"], strict=True)
    return {
        "trained_streamed_photos_per_s": round(statistics.median(speeds["stream"]), 2),
        "trained_from_memory_photos_per_s": round(statistics.median(speeds["memory"]), 2),
        "trained_streamed_to_from_memory": round(statistics.median(own / other for own, other in pairs), 3),
    }


def train(config: Config, changes: dict[str, Any]) -> list[float]:
    """Train, and return the photos per second of every epoch but the first."""
    terminal = Terminal.silent()
    prepared = prepare_run(override(config, changes), resume=False, overwrite=True, terminal=terminal)
    result = run_training(prepared, terminal=terminal)
    records = [json.loads(line) for line in result.run.read_bytes("metrics.jsonl").splitlines()]
    return [record["images_per_s"] for record in records[1:]]


if __name__ == "__main__":
    main()
