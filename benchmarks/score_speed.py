"""What scoring through `ray-trash score` costs and gains: `python -m benchmarks.score_speed`.

Three ways to label the same JPEG files with the same network of random weights, in turn, so that a machine whose
speed drifts drifts for all: `ray-trash score` with one worker; a loop by hand in this process, one thread that reads
and decodes a batch ahead of the one that computes, with the same engine and decoder; and Ray Data's plain recipe,
`read_images` and `map_batches` with torch in fp32. Starting up counts for none of them: Ray is up before, the loop's
network is loaded before, and the rates are those between the first answers and the last, without the photos of the
first. Prints one JSON object: medians of photos per second and their ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import statistics
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import ray.data
import torch
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.answering import photos_of, write_random_checkpoint
from ray_trash.cluster.connect import ray_session
from ray_trash.image.tensor import normalise
from ray_trash.model.checkpoint import open_checkpoint
from ray_trash.model.predictor import Predictor, load_network
from ray_trash.score.inputs import BATCH_PHOTOS
from ray_trash.score.progress import Pace
from ray_trash.score.run import score_here


def main() -> None:
    """Measure, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=2000, help="JPEG files of a round (2000)")
    parser.add_argument("--rounds", type=int, default=3, help="times each way is taken, in turn (3)")
    parser.add_argument("--data", help="folder of JPEG files, repeated where they are too few (rendered)")
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
            out, console = str(Path(folder) / "out.parquet"), Console(quiet=True)
            summary = score_here(str(checkpoint), [str(photos)], out, overwrite=True, console=console)
            score.append(summary["images_per_s"])
            by_hand.append(speed_by_hand(checkpoint, photos))
            recipe.append(speed_of_recipe(checkpoint, photos))
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
    sys.stdout.write(json.dumps(result) + "\n")


def speed_by_hand(checkpoint: Path, photos: Path) -> float:
    """Score in this process, one thread ahead of the other, and return photos per second."""
    predictor = Predictor.load(checkpoint, engine="auto", n_threads=os.cpu_count())
    ready: queue.Queue[NDArray[np.uint8] | None] = queue.Queue(maxsize=1)

    def read() -> None:
        for batch in _batches(sorted(photos.iterdir())):
            ready.put(np.stack([predictor.prepare(path.read_bytes()) for path in batch]))
        ready.put(None)

    threading.Thread(target=read, daemon=True).start()
    pace = Pace()
    while (squares := ready.get(timeout=600)) is not None:
        pace.add(len(predictor.predict(squares)))
    return pace.per_s or 0.0


def _batches(paths: list[Path]) -> Iterator[list[Path]]:
    for start in range(0, len(paths), BATCH_PHOTOS):
        yield paths[start : start + BATCH_PHOTOS]


def speed_of_recipe(checkpoint: Path, photos: Path) -> float:
    """Score as Ray Data's guide to batch inference does, with every core for torch, and return photos per second."""
    size_px = open_checkpoint(checkpoint).document.preprocessing.size_px
    scored = ray.data.read_images(str(photos), size=(size_px, size_px), mode="RGB").map_batches(
        _Recipe,
        fn_constructor_args=(str(checkpoint),),
        batch_size=BATCH_PHOTOS,
        num_cpus=1,
        compute=ray.data.ActorPoolStrategy(size=1),
    )
    scored.context.enable_progress_bars = False
    scored.context.print_on_execution_start = False
    pace = Pace()
    for batch in scored.iter_batches(batch_size=None):
        pace.add(len(batch["label"]))
    return pace.per_s or 0.0


class _Recipe:
    def __init__(self, checkpoint: str) -> None:
        torch.set_num_threads(os.cpu_count() or 1)
        opened = open_checkpoint(checkpoint)
        self._network, self._preprocessing = load_network(opened), opened.document.preprocessing

    @torch.inference_mode()
    def __call__(self, batch: dict[str, Any]) -> dict[str, NDArray[np.int64]]:
        squares = torch.from_numpy(np.array(batch["image"]))
        return {"label": self._network(normalise(squares, self._preprocessing)).argmax(dim=1).numpy()}


if __name__ == "__main__":
    main()
