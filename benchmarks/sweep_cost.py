"""What a sweep costs against the same trials one by one: `python -m benchmarks.sweep_cost`.

Sixteen points of dropout, learning rate and frozen stages 3 to 5, six epochs each, on rendered or given photos: first
as independent trainings that compute everything anew (in this process, so without Ray Train's start-up), then as one
sweep that stops losing trials and shares the activations of the frozen stages. Seconds of both, their ratio, and how
validation accuracy differs for trials that the sweep trained to their end.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, conclude, ratio
from ray_trash.cluster.connect import ray_session
from ray_trash.config import Config, override
from ray_trash.fetch.sample import render_sample
from ray_trash.terminal.say import Terminal
from ray_trash.train.run import prepare_run, run_training
from ray_trash.tune.search import Point
from ray_trash.tune.sweep import prepare_sweep, run_sweep

SPACE = {
    "model.dropout": {"choice": [0.0, 0.2, 0.4]},
    "train.learning_rate": {"choice": [1e-4, 3e-4, 1e-3]},
    "model.frozen_stages": {"choice": [3, 4, 5]},
}


def main() -> None:
    """Measure, and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="folder of class folders; left out, a sample set is rendered")
    parser.add_argument("--weights", default="none", help="pretrained weights (none)")
    parser.add_argument("--per-class", type=int, default=40, help="photos of each class where they are rendered (40)")
    parser.add_argument("--size-px", type=int, default=128)
    parser.add_argument("--views", type=int, default=2)
    parser.add_argument("--trials", type=int, default=16)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ray_session(dashboard=False):
        photos = options.data
        if photos is None:
            photos = str(Path(folder) / "photos")
            render_sample(Path(photos), per_class=options.per_class)
        config = Config.model_validate(
            {
                "name": "sweep",
                "storage": str(Path(folder) / "runs"),
                "data": {"root": photos, "cache": "memory"},
                "image": {"size_px": options.size_px, "stored_short_side_px": options.size_px + 32},
                "augment": {"views": options.views},
                "model": {"weights": options.weights, "frozen_stages": 4},
                "train": {"epochs": 6, "cache_frozen_dir": str(Path(folder) / "activations")},
                "tune": {"trials": options.trials, "search": "grid", "space": SPACE, "verdict_seeds": 0},
            }
        )
        terminal = Terminal.stderr()
        prepared = prepare_sweep(config, resume=False, overwrite=False, terminal=terminal)
        started = time.perf_counter()
        plain = [train_plainly(config, point) for point in prepared.points]
        plain_s = time.perf_counter() - started
        started = time.perf_counter()
        sweep = run_sweep(prepared, json.dumps({}), terminal=terminal)
        sweep_s = time.perf_counter() - started
    differences = [
        record.metrics["val_accuracy"] - plain[record.trial]["val_accuracy"]
        for record in sweep.records
        if record.status == "done"
    ]
    result = {
        "trials": len(prepared.points),
        "epochs_of_the_sweep": sum(record.epochs_run for record in sweep.records),
        "epochs_of_all": 6 * len(prepared.points),
        "accuracy_difference_of_full_trials": [round(difference, 4) for difference in differences],
        "val_n": plain[0]["val_n"],
    }
    conclude(
        [
            ratio("a sweep over its trials one by one", sweep_s, plain_s, "s", at_most=1.0),
            Figure("accuracy of a full trial in the sweep less alone", statistics.median(differences)),
        ],
        result,
    )


def train_plainly(config: Config, point: Point) -> Any:
    """Train one point alone and return its best epoch's figures."""
    changes = {**point.params, "name": f"plain-{point.number:02d}", "train.workers": 0, "train.cache_frozen": "off"}
    terminal = Terminal.silent()
    prepared = prepare_run(override(config, changes), resume=False, overwrite=False, terminal=terminal)
    return run_training(prepared, terminal=terminal).record


if __name__ == "__main__":
    main()
