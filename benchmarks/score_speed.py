"""What scoring through `ray-trash score` costs and gains: `python -m benchmarks.score_speed`.

Three ways to label the same JPEG files with the same network of random weights, in turn, so that a machine whose
speed drifts drifts for all: `ray-trash score` with one worker; a loop by hand in this process, one thread that reads
and decodes a batch ahead of the one that computes, with the same engine and decoder; and the recipe of Ray Data's
guide to batch inference on images, `read_images`, `map` with a transform and `map_batches` with torch in fp32, as it
stands there, with the threads that Ray gives torch. Starting up counts for none of them: Ray is up before, the loop's
network is loaded before, and the rates are those between the first answers and the last, without the photos of the
first. Medians of photos per second, and their ratios.
"""

from __future__ import annotations

import argparse
import os
import queue
import statistics
import sys
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray.data
import torch
from numpy.typing import NDArray
from torchvision import transforms

from benchmarks.answering import photos_of, write_random_checkpoint
from benchmarks.figures import conclude, ratio
from ray_trash.cluster.connect import ray_session
from ray_trash.image.preprocess import IMAGENET_MEAN, IMAGENET_STD
from ray_trash.model.checkpoint import open_checkpoint
from ray_trash.model.predictor import Predictor, load_network
from ray_trash.score.run import score_here
from ray_trash.score.work import BATCH_PHOTOS
from ray_trash.terminal.bar import Rate
from ray_trash.terminal.say import Terminal

AT_LEAST = 0.95
"""What scoring through the command may lose."""


def main() -> None:
    """Measure, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=2000, help="JPEG files of a round (2000)")
    parser.add_argument("--rounds", type=int, default=3, help="times each way is taken, in turn (3)")
    parser.add_argument("--data", help="folder of JPEG files, repeated where they are too few (rendered)")
    parser.add_argument("--recipe-photos", type=int, default=500, help="of them, how many the recipe gets (500)")
    parser.add_argument("--size-px", type=int, default=224)
    options = parser.parse_args()
    score, by_hand, recipe = [], [], []
    with (
        tempfile.TemporaryDirectory() as folder,
        photos_of(options.data, options.photos) as files,
        ray_session(dashboard=False),
    ):
        checkpoint, photos = Path(folder) / "checkpoint", Path(folder) / "photos"
        write_random_checkpoint(checkpoint, size_px=options.size_px)
        photos.mkdir()
        for number, file in enumerate(files):
            (photos / f"{number:06d}.jpg").write_bytes(file.read_bytes())
        for _ in range(options.rounds):
            out, terminal = str(Path(folder) / "out.parquet"), Terminal.silent()
            summary = score_here(str(checkpoint), [str(photos)], out, overwrite=True, terminal=terminal)
            score.append(summary["images_per_s"])
            by_hand.append(speed_by_hand(checkpoint, photos))
            recipe.append(speed_of_recipe(checkpoint, sorted(photos.iterdir())[: options.recipe_photos]))
            sys.stderr.write(f"score {score[-1]:.1f}, by hand {by_hand[-1]:.1f}, recipe {recipe[-1]:.1f} photos/s\n")
    ours, hand, plain = (statistics.median(speeds) for speeds in (score, by_hand, recipe))
    result = {
        "score_photos_per_s": round(ours, 2),
        "by_hand_photos_per_s": round(hand, 2),
        "recipe_photos_per_s": round(plain, 2),
        "score_to_by_hand": round(ours / hand, 3),
        "score_to_recipe": round(ours / plain, 2),
        "photos": options.photos,
        "rounds": options.rounds,
        "size_px": options.size_px,
        "cpus": os.cpu_count(),
        "engine": summary["engine"],
    }
    conclude(
        [
            ratio("score over a loop by hand", ours, hand, at_least=AT_LEAST),
            ratio("score over Ray Data's recipe", ours, plain),
        ],
        result,
    )


def speed_by_hand(checkpoint: Path, photos: Path) -> float:
    """Score in this process, one thread ahead of the other, and return photos per second."""
    predictor = Predictor.load(checkpoint, engine="auto", n_threads=os.cpu_count())
    ready: queue.Queue[NDArray[np.uint8] | None] = queue.Queue(maxsize=1)

    def read() -> None:
        for batch in _batches(sorted(photos.iterdir())):
            ready.put(np.stack([predictor.prepare(path.read_bytes()) for path in batch]))
        ready.put(None)

    threading.Thread(target=read, daemon=True).start()
    pace = Rate()
    while (squares := ready.get(timeout=600)) is not None:
        pace.add(len(predictor.predict(squares)))
    return pace.per_s or 0.0


def _batches(paths: list[Path]) -> Iterator[list[Path]]:
    for start in range(0, len(paths), BATCH_PHOTOS):
        yield paths[start : start + BATCH_PHOTOS]


def speed_of_recipe(checkpoint: Path, photos: list[Path]) -> float:
    """Score as Ray Data's guide does, with one worker beside the reading tasks, and return photos per second.

    Source: https://docs.ray.io/en/latest/data/examples/pytorch_resnet_batch_prediction.html
    """
    size_px = open_checkpoint(checkpoint).document.preprocessing.size_px
    scored = (
        ray.data.read_images([str(path) for path in photos], mode="RGB")
        .map(partial(_transform, size_px=size_px))
        .map_batches(
            _Recipe,
            fn_constructor_args=(str(checkpoint),),
            batch_size=BATCH_PHOTOS,
            num_cpus=1,
            compute=ray.data.ActorPoolStrategy(size=1),
        )
    )
    scored.context.enable_progress_bars = False
    scored.context.print_on_execution_start = False
    pace = Rate()
    for batch in scored.iter_batches(batch_size=None):
        pace.add(len(batch["label"]))
    return pace.per_s or 0.0


def _transform(row: dict[str, Any], *, size_px: int) -> dict[str, Any]:
    steps = transforms.Compose(
        [
            transforms.ToTensor(),
            transforms.Resize((size_px, size_px), antialias=True),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    return {"image": steps(row["image"])}


class _Recipe:
    def __init__(self, checkpoint: str) -> None:
        self._network = load_network(open_checkpoint(checkpoint))

    def __call__(self, batch: dict[str, Any]) -> dict[str, NDArray[np.int64]]:
        with torch.inference_mode():
            return {"label": self._network(torch.as_tensor(batch["image"])).argmax(dim=1).numpy()}


if __name__ == "__main__":
    main()
