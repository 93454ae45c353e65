"""Trials in order, and the file they are kept in."""

from __future__ import annotations

import json
from dataclasses import replace

from ray_trash.config import Config, Dimension
from ray_trash.tune.savings import savings_line
from ray_trash.tune.shared import SharedActivations
from ray_trash.tune.trials import TrialRecord, ranked, records_from_json, trials_json

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


def test_savings_count_the_epochs_that_were_not_trained_and_the_stages_that_were_not_computed() -> None:
    config = Config.model_validate({"name": "n", "data": {"root": "unused"}, "train": {"epochs": 6}})
    space = {"model.frozen_stages": Dimension(choice=(3, 4, 5))}
    nothing = SharedActivations(None, {}, 0, 0.0, {})
    line = savings_line([DONE, PRUNED], config, space, nothing, concurrent=1)
    assert "7 of the 12 epochs of 2 trials" in line
    assert "takes 18" in line
    assert "about 50 s saved by stopping" in line
    assert "frozen" not in line
    shared = SharedActivations(frozenset({4}), {4: 1024}, 1, build_s=5.0, pass_s={4: 2.0})
    assert "about 9 s saved by computing frozen stages once" in savings_line(
        [DONE, PRUNED], config, space, shared, concurrent=1
    )
