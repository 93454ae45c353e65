"""How the search for near duplicates grows: 2,500, 25,000 and 250,000 photos' keypoints, generated.

Run: python -m benchmarks.audit_scale [--sizes 2500 25000 250000]

Each size runs in a process of its own, so that its peak memory is its own. A tenth of the photos are copies of
others with noise on every descriptor, so that there is something to find; the time is that of candidates and of
their check, on one thread, the memory the peak of resident memory less that before the keypoints were made. The
last column is how much faster than the number of photos each figure grew: 1.0 is linear.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time

import numpy as np

from ray_trash.dataset.groups.candidates import candidate_pairs
from ray_trash.dataset.groups.find import SAMPLE_PHOTOS
from ray_trash.dataset.groups.near import Shapes, check_pairs
from ray_trash.dataset.groups.sketches import Keypoints
from ray_trash.image.sketch import (
    DESCRIPTOR_LENGTH,
    KEYPOINTS_MAX,
    LUMA_HEIGHT_PX,
    LUMA_WIDTH_PX,
    SKETCH_SHORT_SIDE_PX,
)

COPIES_SHARE = 0.1


def generate(n_photos: int) -> tuple[Shapes, int]:
    """Draw keypoints with the few large and many small values descriptors have; return how many are copies."""
    rng = np.random.default_rng(0)
    n_copies = int(n_photos * COPIES_SHARE)
    shape = (n_photos, KEYPOINTS_MAX, DESCRIPTOR_LENGTH)
    descriptors = np.empty(shape, np.uint8)
    points = (rng.random((n_photos, KEYPOINTS_MAX, 2)) * SKETCH_SHORT_SIDE_PX).astype(np.float32)
    for start in range(0, n_photos, 1000):
        block = descriptors[start : start + 1000]
        block[:] = np.minimum(rng.gamma(0.5, 40, block.shape), 255)
    for copy, original in zip(range(n_photos - n_copies, n_photos), range(n_copies), strict=True):
        noise = rng.normal(0, 4, shape[1:])
        descriptors[copy] = np.clip(descriptors[original] + noise, 0, 255)
        points[copy] = points[original] * 0.9 + 5
    starts = np.arange(n_photos + 1) * KEYPOINTS_MAX
    keypoints = Keypoints(points.reshape(-1, 2), descriptors.reshape(-1, DESCRIPTOR_LENGTH), starts)
    lumas = rng.integers(0, 256, (n_photos, LUMA_HEIGHT_PX, LUMA_WIDTH_PX), np.uint8)
    sizes = np.full((n_photos, 2), float(SKETCH_SHORT_SIDE_PX))
    return Shapes(keypoints, lumas, sizes), n_copies


def peak_mib() -> float:
    """Return this process's peak of resident memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(n_photos: int) -> dict[str, float]:
    """Search one generated set."""
    before_mib = peak_mib()
    shapes, n_copies = generate(n_photos)
    started = time.perf_counter()
    candidates = candidate_pairs(shapes.keypoints, np.arange(min(n_photos, SAMPLE_PHOTOS)))
    found = check_pairs(shapes, candidates)
    seconds = time.perf_counter() - started
    right = sum(pair.second - pair.first == n_photos - n_copies for pair in found)
    return {
        "photos": n_photos,
        "seconds": seconds,
        "mib": peak_mib() - before_mib,
        "candidates": len(candidates),
        "recall": right / n_copies,
        "precision": right / max(1, len(found)),
    }


def main() -> None:
    """Print a table, one line a size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[2_500, 25_000, 250_000])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        sys.stdout.write(json.dumps(measure(options.one)) + "\n")
        return
    sys.stdout.write("  photos  seconds    MiB  candidates  recall  precision  time/linear  memory/linear\n")
    before: dict[str, float] | None = None
    for size in options.sizes:
        command = [sys.executable, "-m", "benchmarks.audit_scale", "--one", str(size)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        finished = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        row = json.loads(finished.stdout)
        growth = ["-", "-"]
        if before is not None:
            steps = row["photos"] / before["photos"]
            growth = [f"{row[name] / before[name] / steps:.2f}" for name in ("seconds", "mib")]
        sys.stdout.write(
            f"{row['photos']:8} {row['seconds']:8.1f} {row['mib']:6.0f} {row['candidates']:11} {row['recall']:7.3f} "
            f"{row['precision']:10.3f} {growth[0]:>12} {growth[1]:>14}\n"
        )
        sys.stdout.flush()
        before = row


if __name__ == "__main__":
    main()
