"""What keeping the frozen stages' activations gains: `python -m benchmarks.frozen_speed`.

For each number of frozen stages, a plain torch loop that computes the frozen stages in every epoch and `ray-trash`'s
epochs from the second on train the same network on the same photos with the same batch, precision and threads.
Photos per second of both and their ratio, medians over turns taken one after the other.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import torch

from benchmarks.figures import conclude, ratio
from benchmarks.train_overhead import plain_speeds, ray_trash_speeds
from ray_trash.cluster.connect import ray_session
from ray_trash.config import Config, override
from ray_trash.fetch.sample import render_sample


def main() -> None:
    """Measure, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="times each side trains, in turn (3)")
    parser.add_argument("--size-px", type=int, default=224)
    parser.add_argument("--per-class", type=int, default=16)
    options = parser.parse_args()
    result: dict[str, object] = {"rounds": options.rounds, "size_px": options.size_px}
    figures = []
    with tempfile.TemporaryDirectory() as folder, ray_session(dashboard=False):
        photos = Path(folder) / "photos"
        render_sample(photos, per_class=options.per_class)
        config = Config.model_validate(
            {
                "name": "frozen",
                "storage": str(Path(folder) / "runs"),
                "data": {"root": str(photos), "cache": "memory"},
                "image": {"size_px": options.size_px, "stored_short_side_px": 256},
                "augment": {"views": 1},
                "model": {"weights": "none", "frozen_stages": 4},
                "train": {
                    "workers": 0,
                    "epochs": 3,
                    "precision": "fp32",
                    "schedule": "constant",
                    "cache_frozen": "on",
                    "cache_frozen_dir": str(Path(folder) / "activations"),
                },
            }
        )
        for frozen in (4, 5):
            plain, ours = [], []
            for turn in range(options.rounds):
                changes = {"model.frozen_stages": frozen, "name": f"frozen-{frozen}-{turn}"}
                ours += ray_trash_speeds(override(config, changes))
                plain += plain_speeds(override(config, changes), photos)
            figures.append(
                ratio(
                    f"training with {frozen} stages kept over a plain loop",
                    statistics.median(ours),
                    statistics.median(plain),
                    at_least=1.0,
                )
            )
    conclude(figures, result | {"threads": torch.get_num_threads()})


if __name__ == "__main__":
    main()
