"""Training in the process of the tests, on the shared Ray."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ray_trash.config import Config, load_config
from ray_trash.terminal.say import Terminal
from ray_trash.train.run import TrainResult, prepare_run, run_training
from tests.runs import write_config


def configured(folder: Path, photos: Path | str, *, storage: str | None = None, **changes: Any) -> Config:
    """Load the config of the `trained` run with changes; its runs go below `folder` unless they go elsewhere."""
    overrides = {key.replace("__", "."): value for key, value in changes.items()}
    return load_config(write_config(folder, photos, storage=storage), {"train.epochs": 2, **overrides})


def train(config: Config, *, resume: bool = False, terminal: Terminal | None = None) -> TrainResult:
    terminal = terminal or Terminal.silent()
    return run_training(prepare_run(config, resume=resume, overwrite=False, terminal=terminal), terminal=terminal)


def history_of(lines: bytes) -> list[dict[str, Any]]:
    """Parse a `metrics.jsonl`, without what differs whenever a run is repeated."""
    records = [json.loads(line) for line in lines.splitlines()]
    return [{k: v for k, v in record.items() if k not in ("seconds", "images_per_s")} for record in records]


def history(run: Path) -> list[dict[str, Any]]:
    """Read what is the same whenever a run is repeated."""
    return history_of((run / "metrics.jsonl").read_bytes())
