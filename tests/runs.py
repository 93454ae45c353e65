"""A tiny run: its config, and what it leaves behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

TINY = """
name: tiny
seed: 3
image: {size_px: 32, stored_short_side_px: 48}
augment: {preset: dihedral}
model: {weights: none, frozen_stages: 5}
train: {workers: 0, epochs: 3, batch_size_per_worker: 8, learning_rate: 1.0e-3, schedule: cosine, precision: fp32}
data: {root: "REPLACED"}
"""
"""A config for photos of `tests.photos`; an epoch takes a second or two. What one run gives is compared with what
another does, so it is computed in fp32 on every machine."""
FOUR_TRIALS = f"""{TINY}
tune:
  trials: 4
  scheduler: none
  search: grid
  verdict_seeds: 0
  space: {{train.learning_rate: {{choice: [1.0e-3, 2.0e-3, 3.0e-3, 4.0e-3]}}}}
"""
"""A sweep of it over four learning rates."""


@dataclass(frozen=True)
class Finished:
    """How a command ended."""

    code: int
    out: str
    err: str


Command = Callable[..., Finished]
"""Runs `ray-trash` with the arguments given."""


def write_config(folder: Path, photos: Path | str, text: str = TINY, *, storage: str | None = None) -> Path:
    """Write the config, with its runs below `folder` unless they go elsewhere."""
    path = folder / "tiny.yaml"
    path.write_text(text.replace("REPLACED", str(photos)) + f'storage: "{storage or folder / "runs"}"\n')
    return path


def settings(**changes: object) -> list[str]:
    """Spell keys as arguments: `settings(train__epochs=1)` is `--set train.epochs=1`."""
    return [part for key, value in changes.items() for part in ("--set", f"{key.replace('__', '.')}={value}")]


def epochs(run_directory: Path) -> list[int]:
    """Read the epochs of `metrics.jsonl`."""
    path = run_directory / "metrics.jsonl"
    return [json.loads(line)["epoch"] for line in path.read_text().splitlines()] if path.exists() else []


def error_line(stderr: str) -> str:
    """Return the one line that says what went wrong, where nothing else does."""
    lines = [line for line in stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, stderr
    assert "Traceback" not in stderr
    return lines[0]
