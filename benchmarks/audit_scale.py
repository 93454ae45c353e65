"""How an audit grows with the photos: the search for near duplicates on made-up sketches, or all of it on files.

Run: python -m benchmarks.audit_scale [--sizes 25000 100000] [--files 10000 [--against CHECKOUT]]

Each line is a process of its own, with a Ray of its own. A tenth of the sketches are copies of others with noise on
every descriptor, so that there is something to find; their time is that of the search alone, on all processors, and
`time/linear` is how much faster than the number of photos it grew: 1.0 is linear. Files are drawn pictures of 160x120,
of which one in twenty is a crop of another one, saved again; with `--against` the same folder is audited by another
checkout of this program first. `driver MiB` is the peak of the command's own process, `all MiB` of all its processes
together.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from benchmarks.figures import Figure, conclude, ratio
from benchmarks.process_memory import Taken, run_measured
from ray_trash.cluster.connect import ray_session
from ray_trash.cluster.shares import READ_TASK_CPUS
from ray_trash.cluster.tasks import cluster_cpus, run_tasks
from ray_trash.dataset.columns import table_of
from ray_trash.dataset.groups.find import SAMPLE_PHOTOS
from ray_trash.dataset.groups.near import find_near_pairs
from ray_trash.dataset.groups.sketches import KEYPOINTS_SCHEMA, PICTURES_SCHEMA, SUMMARY_SCHEMA, Details, Sketches
from ray_trash.image.sketch import (
    DESCRIPTOR_LENGTH,
    KEYPOINTS_MAX,
    LUMA_HEIGHT_PX,
    LUMA_WIDTH_PX,
    SKETCH_SHORT_SIDE_PX,
    THUMBNAIL_HEIGHT_PX,
    THUMBNAIL_WIDTH_PX,
)
from ray_trash.terminal.say import Terminal

COPIES_SHARE = 0.1
BLOCK_PHOTOS = 1000
CLASSES = ("cardboard", "glass", "metal", "paper", "plastic", "trash")
FILE_COPIES_SHARE = 0.05


def draw_block(block: int, levels: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Draw the keypoints of a block of photos: places, and descriptors with few large and many small values."""
    rng = np.random.default_rng([0, block])
    shape = (BLOCK_PHOTOS, KEYPOINTS_MAX)
    points = rng.random((*shape, 2), np.float32) * SKETCH_SHORT_SIDE_PX
    return points, levels[rng.integers(0, len(levels), (*shape, DESCRIPTOR_LENGTH), np.uint16)]


def make_block(block: int, n_photos: int, levels: NDArray[np.uint8]) -> tuple[pa.Table, pa.Table]:
    """Make the keypoints and the pictures of a block; copies have the noisy keypoints of their originals."""
    points, descriptors = draw_block(block, levels)
    first_copy = n_photos - int(n_photos * COPIES_SHARE)
    start = block * BLOCK_PHOTOS
    if start + BLOCK_PHOTOS > first_copy:
        rng = np.random.default_rng([1, block])
        copies = np.arange(max(start, first_copy), start + BLOCK_PHOTOS)
        for original_block in np.unique((copies - first_copy) // BLOCK_PHOTOS).tolist():
            theirs, described = draw_block(original_block, levels)
            these = copies[(copies - first_copy) // BLOCK_PHOTOS == original_block]
            those = these - first_copy - original_block * BLOCK_PHOTOS
            points[these - start] = theirs[those] * 0.9 + 5
            noise = rng.standard_normal(described[those].shape, np.float32) * 4
            descriptors[these - start] = np.clip(described[those] + noise, 0, 255)
    rng = np.random.default_rng([2, block])
    sizes = pa.array(np.full(BLOCK_PHOTOS, SKETCH_SHORT_SIDE_PX, np.int32))
    keypoints = {
        "points": as_bytes(points),
        "descriptors": as_bytes(descriptors),
        "width_px": sizes,
        "height_px": sizes,
    }
    pictures = {
        "luma": as_bytes(rng.integers(0, 256, (BLOCK_PHOTOS, LUMA_HEIGHT_PX * LUMA_WIDTH_PX), np.uint8)),
        "thumbnail": as_bytes(
            rng.integers(0, 256, (BLOCK_PHOTOS, THUMBNAIL_HEIGHT_PX * THUMBNAIL_WIDTH_PX * 3), np.uint8)
        ),
    }
    return table_of(keypoints, KEYPOINTS_SCHEMA), table_of(pictures, PICTURES_SCHEMA)


def as_bytes(values: NDArray[Any]) -> pa.Array:
    """Write an array as bytes, one value a photo."""
    offsets = np.arange(len(values) + 1, dtype=np.int64) * values[0].nbytes
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(values))]
    return pa.Array.from_buffers(pa.large_binary(), len(values), buffers)


def search(n_photos: int) -> dict[str, float]:
    """Search one made-up set."""
    levels = np.minimum(np.sort(np.random.default_rng(0).gamma(0.5, 40, 1 << 16)), 255).astype(np.uint8)
    with ray_session(dashboard=False):
        make: Any = ray.remote(num_cpus=READ_TASK_CPUS, num_returns=2)(make_block)
        shared = ray.put(levels)
        n_blocks = n_photos // BLOCK_PHOTOS
        starts = [partial(make.remote, block, n_photos, shared) for block in range(n_blocks)]
        blocks: list[Any] = [None] * n_blocks
        for number, references in run_tasks(starts, at_once=cluster_cpus(), what="made-up sketches"):
            blocks[number] = Details(*references)
        rows = np.arange(n_photos)
        counts = np.full(n_photos, KEYPOINTS_MAX, np.int32)
        summary = table_of({"row": pa.array(rows), "n_points": pa.array(counts)}, SUMMARY_SCHEMA)
        sketches = Sketches(summary, blocks, np.arange(n_blocks + 1) * BLOCK_PHOTOS)
        started = time.perf_counter()
        found = find_near_pairs(sketches, rows >= 0, rows[:SAMPLE_PHOTOS], Terminal.stderr())
        seconds = time.perf_counter() - started
    n_copies = int(n_photos * COPIES_SHARE)
    right = sum(pair.second - pair.first == n_photos - n_copies for pair in found)
    return {"search_s": seconds, "recall": right / n_copies, "precision": right / max(1, len(found))}


def draw_pictures(folder: Path, n_files: int) -> None:
    """Draw small pictures of soft backgrounds and some shapes, in folders of classes; the last ones are crops."""
    n_copies = int(n_files * FILE_COPIES_SHARE)
    for label in CLASSES:
        (folder / label).mkdir()
    for number in range(n_files):
        is_copy = number >= n_files - n_copies
        drawn = number - (n_files - n_copies) if is_copy else number
        rng = np.random.default_rng([7, drawn])
        soft = Image.fromarray(rng.integers(60, 200, (6, 8, 3)).astype(np.uint8))
        picture = soft.resize((160, 120), Image.Resampling.BICUBIC)
        draw = ImageDraw.Draw(picture)
        for _ in range(25):
            x, y, width, height = (int(rng.integers(low, high)) for low, high in ((0, 160), (0, 120), (4, 40), (4, 40)))
            colour = tuple(int(value) for value in rng.integers(0, 256, 3))
            shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
            shape((x, y, x + width, y + height), fill=colour)
        encoded = io.BytesIO()
        (picture.crop((6, 4, 156, 118)) if is_copy else picture).save(encoded, "JPEG", quality=70 if is_copy else 85)
        (folder / CLASSES[drawn % len(CLASSES)] / f"{number:07d}.jpg").write_bytes(encoded.getvalue())


def audit_files(folder: Path, n_files: int, checkout: str) -> tuple[Taken, float, float]:
    """Audit a folder by a checkout of this program, and return what it took, recall and precision."""
    command = [sys.executable, "-m", "ray_trash", "audit", str(folder), "--json"]
    taken = run_measured(command, {"PYTHONPATH": checkout})
    groups = json.loads(taken.stdout)["near_duplicates"]
    first_copy = n_files - int(n_files * FILE_COPIES_SHARE)
    numbers = [sorted(int(Path(path).stem) for path in group) for group in groups]
    right = sum(len(group) == 2 and group[1] - group[0] == first_copy for group in numbers)
    return taken, right / max(1, n_files - first_copy), right / max(1, len(groups))


def line(what: str, n: int, seconds: float, taken: Taken, recall: float, precision: float, growth: str) -> list[Figure]:
    """Print one row, and return its figures."""
    sys.stdout.write(
        f"{what:10} {n:8} {seconds:8.1f} {taken.driver_mib:10.0f} {taken.all_mib:8.0f} {recall:7.3f} {precision:10.3f} "
        f"{growth:>12}\n"
    )
    sys.stdout.flush()
    return [
        Figure(f"{n} {what}", seconds, "s"),
        Figure(f"{n} {what}: copies that are found", recall, at_least=0.99),
        Figure(f"{n} {what}: findings that are copies", precision, at_least=0.99),
    ]


def main() -> None:
    """Print a table, one line a size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", help="sketches, whole thousands (25,000 and 100,000)")
    parser.add_argument("--files", type=int, help="pictures to audit instead")
    parser.add_argument("--against", help="another checkout of this program, that audits them first")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        sys.stdout.write(json.dumps(search(options.one)) + "\n")
        return
    sys.stdout.write("what         photos  seconds driver MiB  all MiB  recall  precision  time/linear\n")
    before: tuple[int, float] | None = None
    figures = list[Figure]()
    for size in options.sizes if options.sizes is not None else [] if options.files else [25_000, 100_000]:
        size -= size % BLOCK_PHOTOS
        taken = run_measured([sys.executable, "-m", "benchmarks.audit_scale", "--one", str(size)])
        row = json.loads(taken.stdout)
        growth = f"{row['search_s'] / before[1] / (size / before[0]):.2f}" if before else "-"
        figures += line("sketches", size, row["search_s"], taken, row["recall"], row["precision"], growth)
        if before:
            linear_s = before[1] * size / before[0]
            figures.append(ratio("time over what linear growth takes", row["search_s"], linear_s, "s", at_most=1.2))
        before = size, row["search_s"]
    if options.files:
        with tempfile.TemporaryDirectory() as folder:
            draw_pictures(Path(folder), options.files)
            for what, checkout in (("before", options.against), ("now", os.getcwd())):
                if checkout:
                    taken, recall, precision = audit_files(Path(folder), options.files, checkout)
                    figures += line(what, options.files, taken.seconds, taken, recall, precision, "-")
    conclude(figures)


if __name__ == "__main__":
    main()
