"""What a larger set costs in memory: `python -m benchmarks.train_memory`.

Trains one streamed epoch on a small set and on the same photos copied under other names, each in a process of
its own, and prints the peak memory of all its processes together (proportional set size, so that shared pages
count once) and the ratio.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks.figures import conclude, ratio
from benchmarks.process_memory import run_measured
from ray_trash.fetch.sample import render_sample

AT_MOST = 1.25


def main() -> None:
    """Measure, and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--per-class", type=int, default=40, help="photos of a class in the small set (40)")
    parser.add_argument("--times", type=int, default=10, help="how many times as large the large set is (10)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        small, large = Path(folder) / "small", Path(folder) / "large"
        render_sample(small, per_class=options.per_class)
        for path in small.rglob("*.jpg"):
            for copy in range(options.times):
                target = large / path.parent.name / f"{path.stem}-{copy}.jpg"
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
        peaks = {name: peak_mib(Path(folder), root) for name, root in (("small", small), ("large", large))}
    result = {
        "times_as_large": options.times,
    }
    conclude([ratio("memory of a larger set", peaks["large"], peaks["small"], "MiB", at_most=AT_MOST)], result)


def peak_mib(folder: Path, root: Path) -> float:
    """Train one streamed epoch and return the peak of the memory of all its processes together, in MiB."""
    config = folder / f"{root.name}.yaml"
    config.write_text(
        f"name: {root.name}\nstorage: {folder / 'runs'}\ndata: {{root: {root}, cache: stream}}\n"
        "image: {size_px: 64, stored_short_side_px: 256}\n"
        "model: {weights: none, frozen_stages: 5}\ntrain: {epochs: 1}\n"
    )
    return run_measured([sys.executable, "-m", "ray_trash", "train", str(config)]).all_mib


if __name__ == "__main__":
    main()
