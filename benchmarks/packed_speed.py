"""What small files cost: the same photos as files and packed, on this disk and in an object store that answers late.

Run: python -m benchmarks.packed_speed [--photos 4000] [--kb 30] [--latency-ms 20]

One process lists, reads all photos in their order, as cataloguing does, and reads batches of 32 in a shuffled order, as
training does. Both sides go through the functions that the program itself uses, take turns, and read several files at a
time where they are remote. Nothing is decoded, and the disk's cache is warm: what is measured is what reading costs by
itself. Requests and bytes are what the object store was asked for and sent.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from benchmarks.figures import Figure, conclude, ratio
from benchmarks.object_store import object_store, served
from ray_trash.cluster.connect import ray_session
from ray_trash.dataset.listing import list_photos
from ray_trash.dataset.read import PhotoFolder
from ray_trash.errors import ImageError
from ray_trash.pack.run import pack_photos
from ray_trash.pack.target import Target
from ray_trash.terminal.say import Terminal

BLOCK_PHOTOS, BATCH_PHOTOS, SHUFFLED_BATCHES = 64, 32, 20
CLASSES = 10


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=4000)
    parser.add_argument("--kb", type=float, default=30, help="of a photo, on average (30)")
    parser.add_argument("--latency-ms", type=float, default=20, help="of each request (20)")
    parser.add_argument("--rounds", type=int, default=3, help="times each side is measured, in turn (3)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="packed-speed-") as temporary:
        folder = Path(temporary)
        write_photos(folder / "files", options.photos, options.kb)
        with ray_session(dashboard=False):
            started = time.perf_counter()
            target = Target(str(folder / "packed"))
            pack_photos(list_photos(str(folder / "files")), target, split="auto", terminal=Terminal.silent())
            show("pack", photos_per_s=round(options.photos / (time.perf_counter() - started)))
        figures = compare("local", str(folder / "files"), str(folder / "packed"), options.rounds)
        with object_store(folder, latency_ms=options.latency_ms) as endpoint:
            query = f"endpoint_override={endpoint}&scheme=http&region=us-east-1"
            files, packed = (f"s3://test:test@bucket/{name}?{query}" for name in ("files", "packed"))
            figures += compare(f"{options.latency_ms:g} ms a request", files, packed, 1, endpoint=endpoint)
    conclude(figures)


def write_photos(root: Path, n_photos: int, kb: float) -> None:
    """Write files of random bytes, half to one and a half times the size that is asked for."""
    random = np.random.default_rng(0)
    for number, size in enumerate(random.uniform(0.5, 1.5, n_photos) * kb * 1000):
        path = root / f"class-{number % CLASSES}" / f"{number:07d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random.bytes(int(size)))


def compare(where: str, files: str, packed: str, rounds: int, *, endpoint: str | None = None) -> list[Figure]:
    """Return what each side does a second, and how many times as much the packed one; print what was asked for it."""
    figures = []
    paths: list[str] = list_photos(files).files["path"].to_pylist()
    shuffled = np.random.default_rng(1).permutation(len(paths))[: BATCH_PHOTOS * SHUFFLED_BATCHES]
    batches = [[paths[row] for row in shuffled[start : start + BATCH_PHOTOS]] for start in range(0, len(shuffled), 32)]
    in_order = [paths[start : start + BLOCK_PHOTOS] for start in range(0, len(paths), BLOCK_PHOTOS)]
    works: dict[str, Callable[[str], int]] = {
        "list": lambda root: len(list_photos(root).files),
        "read in order": lambda root: read_all(root, in_order),
        "read shuffled": lambda root: read_all(root, batches),
    }
    for what, work in works.items():
        speeds: dict[str, list[float]] = {"files": [], "packed": []}
        asked: dict[str, str] = {}
        for _ in range(rounds):
            for side, root in (("files", files), ("packed", packed)):
                if endpoint:
                    served(endpoint)
                started = time.perf_counter()
                n_photos = work(root)
                speeds[side].append(n_photos / (time.perf_counter() - started))
                if endpoint:
                    requests, n_bytes = served(endpoint)
                    asked[side] = f"{requests} requests, {n_bytes / 2**20:.1f} MiB"
        medians = {side: statistics.median(values) for side, values in speeds.items()}
        figures.append(ratio(f"{what}, {where}: packed over files", medians["packed"], medians["files"]))
        if asked:
            show(f"{where}, {what}", **{f"{side}_asked": text for side, text in asked.items()})
    return figures


def read_all(root: str, blocks: list[list[str]]) -> int:
    """Read blocks of photos, and count them."""
    folder = PhotoFolder.at(root)
    return sum(1 for block in blocks for _ in sound(folder.read_many(block)))


def sound(photos: Iterator[bytes | ImageError]) -> Iterator[bytes]:
    """Pass photos on, or raise what is wrong."""
    for photo in photos:
        if isinstance(photo, ImageError):
            raise photo
        yield photo


def show(what: str, **figures: object) -> None:
    """Print one line."""
    sys.stdout.write(json.dumps({"what": what, **figures}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
