"""What training through Ray costs: `python -m benchmarks.train_overhead`.

Both sides train the same ResNet50 on the same decoded photos with the same augmentation, batch size,
optimizer, precision and threads: a plain loop in this process, and `ray-trash`'s epochs with one worker on a
local Ray. They take turns, so that a machine whose speed drifts drifts for both; the first epoch of each
side warms up and is not counted. Photos per second, and their ratio.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.figures import conclude, ratio
from ray_trash.cluster.connect import ray_session
from ray_trash.config import Config, override
from ray_trash.fetch.sample import render_sample
from ray_trash.image.augment import augment_photo
from ray_trash.image.preprocess import Preprocessing, load_photo
from ray_trash.image.tensor import normalise
from ray_trash.model.network import build_network, freeze_stages, set_training_mode
from ray_trash.terminal.say import Terminal
from ray_trash.train.run import prepare_run, run_training
from ray_trash.train.state import build_optimizer

AT_LEAST = 0.95


def main() -> None:
    """Measure, and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="times each side trains, in turn (3)")
    parser.add_argument("--epochs", type=int, default=3, help="epochs of one turn, the first uncounted (3)")
    parser.add_argument("--size-px", type=int, default=160)
    parser.add_argument("--frozen-stages", type=int, default=3)
    parser.add_argument("--per-class", type=int, default=40)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ray_session(dashboard=False):
        photos = Path(folder) / "photos"
        render_sample(photos, per_class=options.per_class)
        config = Config.model_validate(
            {
                "name": "overhead",
                "storage": str(Path(folder) / "runs"),
                "data": {"root": str(photos), "cache": "memory"},
                "image": {"size_px": options.size_px, "stored_short_side_px": 256},
                "model": {"weights": "none", "frozen_stages": options.frozen_stages},
                "train": {"workers": 1, "epochs": options.epochs, "precision": "fp32", "schedule": "constant"},
            }
        )
        plain, ours = [], []
        for turn in range(options.rounds):
            ours += ray_trash_speeds(override(config, {"name": f"overhead-{turn}"}))
            plain += plain_speeds(config, photos)
    result = {
        "rounds": options.rounds,
        "threads": torch.get_num_threads(),
        "size_px": options.size_px,
        "frozen_stages": options.frozen_stages,
    }
    ratio_of_medians = ratio(
        "training through Ray over a plain loop", statistics.median(ours), statistics.median(plain), at_least=AT_LEAST
    )
    conclude([ratio_of_medians], result)


def ray_trash_speeds(config: Config) -> list[float]:
    """Train through Ray and return the photos per second of every epoch but the first."""
    terminal = Terminal.silent()
    prepared = prepare_run(config, resume=False, overwrite=True, terminal=terminal)
    result = run_training(prepared, terminal=terminal)
    records = [json.loads(line) for line in result.run.read_bytes("metrics.jsonl").splitlines()]
    return [record["images_per_s"] for record in records[1:]]


def plain_speeds(config: Config, root: Path) -> list[float]:
    """Train in a plain loop over photos in memory and return the photos per second of every epoch but the first."""
    preprocessing = Preprocessing.from_config(config.image)
    paths = sorted(root.rglob("*.jpg"))
    stored = [load_photo(path.read_bytes(), preprocessing) for path in paths]
    classes = sorted({path.parent.name for path in paths})
    labels = np.array([classes.index(path.parent.name) for path in paths])
    frozen = config.model.frozen_stages
    network = build_network(len(classes)).to(memory_format=torch.channels_last)
    freeze_stages(network, frozen)
    set_training_mode(network, frozen)
    optimizer = build_optimizer(network, config)
    random = np.random.default_rng(0)
    speeds = []
    for epoch in range(config.train.epochs):
        started, size = time.perf_counter(), config.train.batch_size_per_worker
        order = random.permutation(len(stored))
        batches = [order[start : start + size] for start in range(0, len(order), size)]
        for batch in batches:
            drawn = [
                augment_photo(stored[i], config.augment, preprocessing, seed=0, epoch=epoch, photo_key=int(i))
                for i in batch
            ]
            logits = network(normalise(torch.from_numpy(np.stack(drawn)), preprocessing))
            loss = F.cross_entropy(logits, torch.from_numpy(labels[batch]))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        speeds.append(len(stored) / (time.perf_counter() - started))
    return speeds[1:]


if __name__ == "__main__":
    main()
