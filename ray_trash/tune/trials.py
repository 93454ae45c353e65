"""What is known of every trial of a sweep, and where. Plain values: who reads a sweep needs neither Ray nor torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ray_trash.config import Config
from ray_trash.storage import Storage

Params = Mapping[str, Any]
"""Dotted keys of the config to the values a trial was trained with."""
Status = Literal["done", "pruned", "failed"]
AS_WRITTEN = 0
"""The number of the trial that is the config as written."""
TRIALS_FILE = "trials.json"
VERDICT_FILE = "verdict.json"


@dataclass(frozen=True)
class TrialRecord:
    """One trial.

    Attributes:
        params: Every searched key with the trial's value.
        run: Its run directory, relative to the sweep's.
        best_epoch: The epoch that is kept, from 1: the one with the best value, or the last; None where it has none.
        best_value: Its value of the sweep's metric on validation.
        metrics: Validation's, of the best epoch.
        seconds: Of its epochs together.
        status: `done`, `pruned` by the scheduler, or `failed`.
        curve: The metric after every epoch.
    """

    trial: int
    params: Params
    run: str
    epochs_run: int
    best_epoch: int | None
    best_value: float | None
    metrics: Mapping[str, Any]
    seconds: float
    status: Status
    stop_reason: str
    curve: tuple[float, ...]


def ranked(records: Sequence[TrialRecord], *, higher_is_better: bool) -> list[TrialRecord]:
    """Order the trials that have a value by their best epoch, the best first; of equals the first trial."""
    scored = [record for record in records if record.best_value is not None and record.status != "failed"]
    sign = -1.0 if higher_is_better else 1.0
    return sorted(scored, key=lambda record: (sign * (record.best_value or 0.0), record.trial))


def trials_json(records: Sequence[TrialRecord]) -> bytes:
    """Render `trials.json`: every trial, the config as written first; curves are left to `metrics.jsonl`."""
    ordered = sorted(records, key=lambda record: record.trial)
    rows = [{**asdict(record), "seconds": round(record.seconds, 1)} for record in ordered]
    for row in rows:
        del row["curve"]
    return (json.dumps(rows, indent=2) + "\n").encode()


def records_from_json(data: bytes) -> list[TrialRecord]:
    """Read what `trials_json` gave, with empty curves."""
    return [TrialRecord(**row, curve=()) for row in json.loads(data)]


def metric_of(config: Config) -> str:
    """Return what trials are compared by, always measured on validation."""
    return config.train.select_by if config.train.select_by.startswith("val_") else "val_macro_f1"


def directory_of(sweep: Storage, run: str) -> Storage:
    """Return the run directory of a training of a sweep."""
    return sweep.child(*run.split("/"))
