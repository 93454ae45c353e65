"""The key that decides the score is told from those that do not."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from ray_trash.config.tune import Dimension
from ray_trash.tune.importance import MIN_TRIALS, importances
from ray_trash.tune.trials import Status, TrialRecord

SPACE = {
    "model.dropout": Dimension(uniform=(0.0, 0.5)),
    "optim.learning_rate": Dimension(loguniform=(1e-6, 1e-2)),
    "data.augment": Dimension(choice=("none", "light", "strong")),
    "model.frozen_stages": Dimension(int=(0, 4)),
}


def record(trial: int, params: dict, value: float | None, status: Status = "done") -> TrialRecord:
    return TrialRecord(trial, params, f"trials/{trial}", 3, 1, value, {}, 1.0, status, "all epochs", ())


def sweep(score, n_trials: int = 40) -> list[TrialRecord]:
    """Trials at random points, scored by a function of the params."""
    random = np.random.default_rng(1)
    records = []
    for trial in range(n_trials):
        params = {
            "model.dropout": float(random.uniform(0, 0.5)),
            "optim.learning_rate": float(10 ** random.uniform(-6, -2)),
            "data.augment": str(random.choice(["none", "light", "strong"])),
            "model.frozen_stages": int(random.integers(0, 5)),
        }
        records.append(record(trial, params, float(score(params))))
    return records


@pytest.mark.parametrize(
    ("key", "score"),
    [
        ("model.dropout", lambda params: 1 - params["model.dropout"]),
        ("optim.learning_rate", lambda params: math.log10(params["optim.learning_rate"])),
        ("data.augment", lambda params: 0.9 if params["data.augment"] == "light" else 0.8),
        ("model.frozen_stages", lambda params: abs(params["model.frozen_stages"] - 2)),
    ],
)
def test_the_only_key_that_matters_gets_nearly_all_of_it(key, score):
    shares = importances(sweep(score), SPACE)
    assert list(shares) == list(SPACE)
    assert sum(shares.values()) == pytest.approx(1.0)
    assert shares[key] > 0.9


def test_the_key_that_matters_more_gets_more():
    shares = importances(sweep(lambda params: 10 * params["model.dropout"] + params["model.frozen_stages"]), SPACE)
    assert shares["model.dropout"] > shares["model.frozen_stages"] > shares["data.augment"]


def test_the_same_trials_give_the_same_shares():
    records = sweep(lambda params: params["model.dropout"], 10)
    assert importances(records, SPACE) == importances(records, SPACE)


@pytest.mark.parametrize("value", [0.1, 0.0])
def test_where_all_trials_score_alike_nothing_matters(value):
    assert importances(sweep(lambda params: value), SPACE) == dict.fromkeys(SPACE, 0.0)


def test_too_few_trials_with_a_value_say_nothing():
    records = sweep(lambda params: params["model.dropout"], MIN_TRIALS)
    assert importances(records, SPACE)
    assert importances(records[1:], SPACE) == {}
    for useless in (
        replace(records[0], best_value=None),
        replace(records[0], best_value=math.nan),
        replace(records[0], status="failed"),
    ):
        assert importances([useless, *records[1:]], SPACE) == {}
    assert importances([], SPACE) == {}


def test_pruned_trials_count_with_their_best_value_so_far():
    records = [replace(each, status="pruned") for each in sweep(lambda params: params["model.dropout"])]
    assert importances(records, SPACE)["model.dropout"] > 0.9


@pytest.mark.parametrize(
    ("dimension", "as_written"),
    [
        (Dimension(loguniform=(1e-6, 1e-2)), 0.0),
        (Dimension(uniform=(0.0, 1.0)), None),
        (Dimension(int=(1, 4)), "auto"),
        (Dimension(choice=(16, 32)), None),
        (Dimension(choice=("a", None, True)), "b"),
        (Dimension(choice=([1, 2], [3])), [4]),
    ],
)
def test_a_config_as_written_outside_the_space_is_told_from_the_rest(dimension, as_written):
    inside = (dimension.choice or dimension.uniform or dimension.loguniform or dimension.int)[0]
    records = [
        record(trial, {"key": as_written if trial % 2 else inside}, 0.9 if trial % 2 else 0.8) for trial in range(12)
    ]
    assert importances(records, {"key": dimension}) == {"key": 1.0}


def test_a_key_with_one_single_value_does_not_matter():
    space = {**SPACE, "train.mixup": Dimension(choice=(0.2,))}
    records = [
        replace(each, params={**each.params, "train.mixup": 0.2})
        for each in sweep(lambda params: params["model.dropout"], 20)
    ]
    assert importances(records, space)["train.mixup"] == 0.0
