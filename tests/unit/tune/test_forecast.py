from __future__ import annotations

from typing import Any

import pytest

from ray_trash.config import config_from_tree
from ray_trash.tune.forecast import Forecast, TrialPace, forecast, to_their_end


def a_config(**tune: Any) -> Any:
    tree = {"name": "a", "data": {"root": "unused"}, "train": {"epochs": 16}, "tune": tune}
    return config_from_tree(tree)


def test_trials_that_nobody_stops_take_all_their_epochs_side_by_side() -> None:
    trials = [TrialPace(2.0, 5.0, 3)] * 4
    assert to_their_end(trials, concurrent=1) == Forecast(4 * 17.0, 12)
    assert to_their_end(trials, concurrent=2) == Forecast(2 * 17.0, 12)
    assert forecast(a_config(scheduler="none"), trials, metric="val_macro_f1", concurrent=4) == Forecast(17.0, 12)


@pytest.mark.parametrize("scheduler", ["asha", "median"])
@pytest.mark.parametrize("metric", ["val_macro_f1", "val_loss"])
def test_a_scheduler_stops_losing_trials_and_never_the_config_as_written(scheduler: str, metric: str) -> None:
    config = a_config(scheduler=scheduler)
    trials = [TrialPace(0.0, 1.0, 16)] * 16
    played = forecast(config, trials, metric=metric, concurrent=2)
    assert 16 + 15 <= played.epochs < 16 * 16 * 0.7
    assert 16 <= played.seconds < 16 * 16 / 2
    assert forecast(config, trials[:1], metric=metric, concurrent=2) == Forecast(16.0, 16)


def test_grace_epochs_are_trained_in_any_case() -> None:
    trials = [TrialPace(0.0, 1.0, 16)] * 8
    one, eight = (
        forecast(a_config(grace_epochs=grace), trials, metric="val_loss", concurrent=1).epochs for grace in (1, 8)
    )
    assert one < eight
    assert eight >= 16 + 7 * 8
