"""Trials in order, and the file they are kept in."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ray_trash.config import Config, Dimension
from ray_trash.storage import Storage
from ray_trash.train.run_directory import write_metrics
from ray_trash.tune.search import Point
from ray_trash.tune.summary import summary_line
from ray_trash.tune.trials import TrialRecord, metric_of, ranked, records_from_json, trials_json
from ray_trash.tune.watch import read_trial

DONE = TrialRecord(
    trial=0,
    params={"model.frozen_stages": 4},
    run="trials/000",
    epochs_run=6,
    best_epoch=5,
    best_value=0.8,
    metrics={"val_accuracy": 0.81},
    seconds=60.0,
    status="done",
    stop_reason="trained all 6 epochs",
    curve=(0.5, 0.6, 0.7, 0.75, 0.8, 0.79),
)
PRUNED = replace(
    DONE, trial=1, run="trials/001", epochs_run=1, best_epoch=1, best_value=0.9, seconds=10.0, status="pruned"
)
FAILED = replace(DONE, trial=2, run="trials/002", epochs_run=0, best_epoch=None, best_value=None, status="failed")


def test_trials_are_ranked_by_their_best_epoch_and_failed_ones_are_not() -> None:
    assert [record.trial for record in ranked([DONE, PRUNED, FAILED], higher_is_better=True)] == [1, 0]
    assert [record.trial for record in ranked([FAILED, PRUNED, DONE], higher_is_better=False)] == [0, 1]
    equal = replace(DONE, trial=5)
    assert [record.trial for record in ranked([equal, DONE], higher_is_better=True)] == [0, 5]


def test_the_file_has_the_config_as_written_first_and_reads_back() -> None:
    data = trials_json([FAILED, PRUNED, DONE])
    rows = json.loads(data)
    assert [row["trial"] for row in rows] == [0, 1, 2]
    promised = {"trial", "params", "epochs_run", "best_epoch", "best_value", "seconds", "status", "stop_reason"}
    assert all(promised <= row.keys() for row in rows)
    assert records_from_json(data)[0] == replace(DONE, curve=())


def a_sweep(cached_stages: frozenset[int] | None, **train: Any) -> Any:
    config = Config.model_validate({"name": "n", "data": {"root": "unused"}, "train": {"epochs": 6, **train}})
    photos = SimpleNamespace(train=range(100), val=range(20))
    plan = SimpleNamespace(concurrent=1, workers=SimpleNamespace(workers=2))
    return SimpleNamespace(config=config, photos=photos, plan=plan, cached_stages=cached_stages)


def test_the_summary_counts_the_epochs_that_were_not_trained_and_the_photos_that_were_not_computed_again() -> None:
    space = {"model.frozen_stages": Dimension(choice=(3, 4, 5))}
    line = summary_line([DONE, PRUNED], a_sweep(None), space)
    assert "trained 7 of 12 planned epochs" in line
    assert "a full grid (three values per range) would need 18" in line
    assert "about 50 s saved by stopping" in line
    assert "photos" not in line
    other = replace(DONE, trial=3, params={"model.frozen_stages": 3})
    cached = summary_line([DONE, PRUNED, other], a_sweep(frozenset({4})), space)
    assert f"{7 * (100 + 20)} photos not computed again" in cached
    steps = a_sweep(frozenset({4}), steps_per_epoch=3, batch_size_per_worker=8)
    assert f"{7 * (3 * 8 * 2 + 20)} photos not computed again" in summary_line([DONE, PRUNED], steps, space)


def test_a_trial_with_a_time_budget_was_to_train_as_long_as_it_had_time() -> None:
    line = summary_line([PRUNED], a_sweep(None, time_budget_min=0.5), {})
    assert "trained 1 of 3 planned epochs" in line


@pytest.mark.parametrize(("select_by", "kept"), [("val_macro_f1", 2), ("last", 3)])
def test_a_trial_is_worth_what_the_epoch_is_that_it_keeps(select_by: str, kept: int, tmp_path: Path) -> None:
    values, run = [0.5, 0.9, 0.8], Storage.at(str(tmp_path))
    history = [
        {"epoch": epoch, "val_macro_f1": value, "seconds": 1.0, "stop_reason": ""}
        for epoch, value in enumerate(values, start=1)
    ]
    write_metrics(run.child("trials/001"), history)
    sweep = a_sweep(None, select_by=select_by)
    sweep.run, sweep.metric = run, metric_of(sweep.config)
    found = read_trial(sweep, Point.of_trial(1, {}), stopped_at=3, error=None)
    assert (found.best_epoch, found.best_value) == (kept, values[kept - 1])
    assert found.curve == tuple(values)
