"""Training on very many small photos: what the driver holds, and how long it takes until the first step.

Run: python -m benchmarks.packed_million [--sizes 10000 1000000] [--folder DIR]

Draws pictures of about 1 kB into Parquet files as others write them, packs these with `ray-trash pack`, and trains 200
steps on the packed set with all stages frozen, streamed, in a process of its own each. `driver_mib` is the peak of the
command's own resident memory, `all_mib` that of all processes of its session (shared pages once); `before_training_s`
is what the command takes less what its epoch takes. `bytes_a_photo` is how much the driver grew from the first size.
With `--folder`, what was drawn and packed stays there and is used again.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.figures import Figure, conclude, ratio
from benchmarks.process_memory import run_measured

SIDE_PX, QUALITY, CLASSES, FILE_PHOTOS = 32, 80, 10, 100_000
STEPS, BATCH_PHOTOS = 200, 32
COMMAND = [sys.executable, "-m", "ray_trash"]


def main() -> None:
    """Measure each size, and print what more photos cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 1_000_000])
    parser.add_argument("--folder", type=Path, help="where the photos go, to stay there (a temporary folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="packed-million-") as temporary:
        folder = options.folder or Path(temporary)
        first: dict[str, Any] | None = None
        figures = list[Figure]()
        for n_photos in options.sizes:
            row = measure(folder, n_photos)
            if first is not None:
                grown_mib = row["driver_mib"] - first["driver_mib"]
                row["bytes_a_photo"] = round(grown_mib * 2**20 / (n_photos - first["photos"]))
                figures += [
                    Figure("the driver's memory for a photo more", row["bytes_a_photo"], "bytes"),
                    ratio("the driver's memory of more photos", row["driver_mib"], first["driver_mib"], "MiB"),
                    ratio("until the first step", row["before_training_s"], first["before_training_s"], "s"),
                ]
            first = first or row
            sys.stderr.write(json.dumps(row) + "\n")
    conclude(figures)


def measure(folder: Path, n_photos: int) -> dict[str, Any]:
    """Draw, pack and train on so many photos."""
    drawn, packed, row = folder / f"drawn-{n_photos}", folder / f"packed-{n_photos}", dict[str, Any](photos=n_photos)
    if not (packed / "packed.json").exists():
        draw(drawn, n_photos)
        row["pack_s"] = round(run_measured([*COMMAND, "pack", str(drawn), "--to", str(packed)]).seconds, 1)
    config = folder / f"{n_photos}.yaml"
    config.write_text(
        f"name: million-{n_photos}\nstorage: {folder / 'runs'}\ndata: {{root: {packed}, cache: stream}}\n"
        f"image: {{size_px: {SIDE_PX}, stored_short_side_px: {SIDE_PX}}}\n"
        "augment: {preset: none}\nmodel: {weights: none, frozen_stages: 5}\n"
        f"train: {{epochs: 1, workers: 1, steps_per_epoch: {STEPS}, batch_size_per_worker: {BATCH_PHOTOS}}}\n"
    )
    trained = run_measured([*COMMAND, "train", str(config), "--overwrite"])
    lines = (folder / "runs" / f"million-{n_photos}" / "metrics.jsonl").read_text().splitlines()
    epoch = json.loads(lines[-1])
    return {
        **row,
        "driver_mib": round(trained.driver_mib),
        "all_mib": round(trained.all_mib),
        "before_training_s": round(trained.seconds - epoch["seconds"], 1),
        "epoch_s": round(epoch["seconds"], 1),
    }


def draw(folder: Path, n_photos: int) -> None:
    """Write noisy pictures whose colour tells the class, as JPEG in Parquet files."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"class-{number}" for number in range(CLASSES)]
    for number, start in enumerate(range(0, n_photos, FILE_PHOTOS)):
        rows = range(start, min(n_photos, start + FILE_PHOTOS))
        photos = pa.array(list(pictures(rows)), pa.binary())
        labels = pa.array([names[row % CLASSES] for row in rows])
        table = pa.table({"image": photos, "label": labels})
        pq.write_table(table, folder / f"{number:05d}.parquet", row_group_size=1000, compression="none")


def pictures(rows: range) -> Iterator[bytes]:
    """Draw the pictures of these numbers, none twice."""
    random = np.random.default_rng(rows.start)
    for row in rows:
        colour = np.array([(37 * (row % CLASSES) + 80 * band) % 256 for band in range(3)])
        pixels = np.clip(colour + random.normal(0, 20, (SIDE_PX, SIDE_PX, 3)), 0, 255).astype(np.uint8)
        yield cv2.imencode(".jpg", pixels, (cv2.IMWRITE_JPEG_QUALITY, QUALITY))[1].tobytes()


if __name__ == "__main__":
    main()
