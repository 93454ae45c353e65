"""Learning rates and patience, without a model."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable

import pytest

from ray_trash.config import TrainConfig
from ray_trash.train.schedule import (
    RunState,
    cosine_factor,
    frozen_stages_at,
    is_better,
    learning_rate_at,
)

FIGURES = {"train_loss": 1.0, "val_loss": 1.0, "val_macro_f1": 0.5}


def run(train: TrainConfig, losses: list[float]) -> RunState:
    state = RunState()
    for loss in losses:
        metrics = {"train_loss": loss, "val_loss": loss, "val_macro_f1": 1 - loss}
        state = state.after_epoch(metrics, 10, train, seconds=60.0)
    return state


def test_cosine_warms_up_to_one_and_ends_at_zero() -> None:
    factors = [cosine_factor(step, total_steps=100, warmup_steps=10) for step in range(101)]
    assert factors[0] == pytest.approx(1 / 11)
    assert factors[10] == 1.0
    assert factors[:11] == sorted(factors[:11])
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[100] == pytest.approx(0.0)


def test_a_plateau_cuts_the_rate_after_its_patience_and_never_below_the_floor() -> None:
    train = TrainConfig(schedule="plateau", monitor="train_loss", learning_rate=1e-5)
    assert run(train, [1.0, 1.0]).plateau_cuts == 0
    assert run(train, [1.0, 1.0, 1.0]).plateau_cuts == 1
    assert run(train, [1.0, 1.0, 1.0, 1.0]).plateau_cuts == 1
    assert run(train, [1.0, 1.0, 1.0, 1.0, 1.0]).plateau_cuts == 2
    rates = [learning_rate_at(0, 1e-5, train, total_steps=1, plateau_cuts=cuts) for cuts in range(5)]
    assert rates[1] == pytest.approx(1e-5 * math.sqrt(0.1))
    assert rates[2] == pytest.approx(1e-6)
    assert rates[3] == rates[4] == 5e-7


def test_a_group_below_the_floor_is_not_raised_to_it() -> None:
    train = TrainConfig(schedule="plateau")
    assert learning_rate_at(0, 1e-9, train, total_steps=1, plateau_cuts=3) == 1e-9


def test_early_stopping_counts_from_the_last_better_epoch() -> None:
    train = TrainConfig(epochs=30, early_stopping_patience_epochs=2)
    assert run(train, [3.0, 2.0, 2.5]).stop_reason == ""
    stopped = run(train, [3.0, 2.0, 2.5, 2.2])
    assert (stopped.stop_kind, stopped.stop_reason) == ("no_gain", "val_loss was no better for 2 epochs")


def test_the_run_ends_after_its_epochs() -> None:
    assert run(TrainConfig(epochs=2), [1.0, 0.5]).stop_reason == "trained all 2 epochs"


@pytest.mark.parametrize(
    ("epochs_s", "epochs"),
    [
        ((60.0,), 9),  # with a reserve, so that the last one fits
        ((90.0, 30.0, 30.0, 30.0), 17),  # the pace is that of the last ones
        ((5.0,), 24),
        ((400.0, 400.0), 2),
    ],
)
def test_epochs_are_cut_to_those_there_is_time_for(epochs_s: tuple[float, ...], epochs: int) -> None:
    state = RunState(epochs_done=len(epochs_s), epochs_s=epochs_s)
    assert state.epochs_of(TrainConfig(epochs=24, time_budget_min=10)) == epochs
    assert state.epochs_of(TrainConfig(epochs=24)) == 24


def rates_of(train: TrainConfig, epochs_s: Iterable[float], *, steps: int = 10) -> tuple[list[float], RunState]:
    """Play a run whose epochs take so many seconds: the rates of its steps, the one after its end last."""
    state, rates = RunState(), []

    def rate(step: int) -> float:
        total_steps = steps * state.epochs_of(train)
        return learning_rate_at(step, 1.0, train, total_steps=total_steps, plateau_cuts=0, so_far=state.cosine)

    for seconds in epochs_s:
        rates += [rate(state.steps_done + step) for step in range(steps)]
        state = state.after_epoch(
            {"train_loss": 1.0, "val_loss": 1.0, "val_macro_f1": 0.5}, steps, train, seconds=seconds
        )
        if state.stop_kind is not None:
            break
    return [*rates, rate(state.steps_done)], state


def jittered(seconds: float) -> list[float]:
    return [seconds * (1 + 0.04 * math.sin(5 * epoch)) for epoch in range(24)]


@pytest.mark.parametrize(
    ("epochs_s", "fewest"),
    [
        (jittered(100), 17),
        (jittered(76), 22),
        ([300.0, *jittered(75)], 19),  # the first one is the slowest, as where caches are cold
        ([75.0] * 8 + [150.0] * 16, 15),  # others begin to use the machine
        ([150.0] * 4 + [75.0] * 20, 19),
    ],
)
def test_whatever_the_pace_a_time_budget_is_kept_and_the_rate_falls_to_zero_and_never_rises(
    epochs_s: list[float], fewest: int
) -> None:
    train = TrainConfig(epochs=24, time_budget_min=30, warmup_steps=5)
    rates, over = rates_of(train, epochs_s)
    assert sum(over.epochs_s) <= 1800
    assert over.epochs_done >= fewest
    assert rates[5:] == sorted(rates[5:], reverse=True)
    assert rates[-1] == pytest.approx(0.0, abs=1e-9)


def test_a_plan_that_changes_bends_the_cosine_and_makes_no_jump() -> None:
    train = TrainConfig(epochs=24, time_budget_min=30)
    rates, _ = rates_of(train, [225.0] * 24)
    falls = [before - after for before, after in itertools.pairwise(rates)]
    assert len(rates) == 71
    assert max(falls) < 1.6 * math.pi / 2 / 70


def test_a_time_budget_that_never_binds_and_none_at_all_give_the_same_rates() -> None:
    rates, _ = rates_of(TrainConfig(epochs=6, warmup_steps=7), [60.0] * 6)
    assert rates == [cosine_factor(step, total_steps=60, warmup_steps=7) for step in range(61)]
    planned, over = rates_of(TrainConfig(epochs=6, warmup_steps=7, time_budget_min=30), [60.0] * 6)
    assert planned == pytest.approx(rates, abs=1e-12)
    assert over.stop_reason == "trained all 6 epochs"


def test_a_run_that_is_given_more_time_goes_on_from_the_rate_it_had() -> None:
    train = TrainConfig(epochs=24, time_budget_min=30)
    state = RunState()
    for _ in range(9):
        state = state.after_epoch(FIGURES, 10, train, seconds=150.0)
    for more in (TrainConfig(epochs=24, time_budget_min=60), TrainConfig(epochs=24)):
        now, later = (
            learning_rate_at(
                90, 1.0, one, total_steps=10 * state.epochs_of(one), plateau_cuts=0, so_far=state.resumed(one).cosine
            )
            for one in (train, more)
        )
        assert later == now


def test_a_run_ends_with_its_time() -> None:
    train = TrainConfig(epochs=24, time_budget_min=4.2)
    assert RunState().epochs_of(train) == 24
    assert run(train, [1.0] * 3).stop_reason == ""
    assert run(train, [1.0] * 4).stop_reason == "trained 4 of 24 epochs, as train.time_budget_min=4.2 allows"


def test_a_run_that_has_had_its_epochs_goes_on_when_it_is_given_more_of_them_or_more_time() -> None:
    over = run(TrainConfig(epochs=24, time_budget_min=4), [1.0] * 4)
    assert over.resumed(TrainConfig(epochs=24, time_budget_min=4)) == over
    assert over.resumed(TrainConfig(epochs=24, time_budget_min=6)).stop_reason == ""
    assert over.resumed(TrainConfig(epochs=5)).stop_reason == ""
    stopped = run(TrainConfig(early_stopping_patience_epochs=1), [1.0, 2.0])
    assert stopped.resumed(TrainConfig(epochs=100)) == stopped


def test_a_run_that_is_resumed_with_less_to_do_than_it_has_done_is_over() -> None:
    killed = run(TrainConfig(epochs=24), [1.0] * 4)
    assert killed.resumed(TrainConfig(epochs=3)).stop_reason == "trained all 3 epochs"
    assert killed.resumed(TrainConfig(epochs=24, time_budget_min=2)).stop_reason.startswith("trained 4 of 24 epochs")


def test_the_last_epoch_is_kept_whatever_it_is_worth_where_it_is_asked_for() -> None:
    over = run(TrainConfig(select_by="last", epochs=3), [0.1, 0.2, 0.3])
    assert (over.best_epoch, over.best_value) == (3, None)
    assert over.stopping.best == 0.1


def test_selection_and_stopping_may_look_at_different_values() -> None:
    train = TrainConfig(select_by="train_loss", early_stopping_patience_epochs=5)
    state = RunState()
    for epoch, (train_loss, val_loss) in enumerate([(3.0, 1.0), (2.0, 2.0), (1.0, 3.0)]):
        metrics = {"train_loss": train_loss, "val_loss": val_loss, "val_macro_f1": 0.0}
        state = state.after_epoch(metrics, 1, train, seconds=1.0)
        assert state.best_epoch == epoch + 1
    assert state.stopping.waited == 2


@pytest.mark.parametrize("direction", ["min", "max"])
def test_a_value_that_is_not_finite_is_never_better(direction: str) -> None:
    for value in (math.nan, math.inf, -math.inf):
        assert not is_better(value, None, direction)  # type: ignore[arg-type]
        assert not is_better(value, 0.5, direction)  # type: ignore[arg-type]


def test_state_survives_json_to_the_bit() -> None:
    state = run(TrainConfig(schedule="plateau"), [1 / 3, 0.1 + 0.2, 0.7])
    assert RunState.from_json(json.loads(json.dumps(state.to_json()))) == state
    budgeted = run(TrainConfig(time_budget_min=7), [1 / 3, 0.1 + 0.2, 0.7])
    assert 0 < budgeted.cosine.share < 1
    assert RunState.from_json(json.loads(json.dumps(budgeted.to_json()))) == budgeted


def test_stages_are_freed_from_the_top_down_to_the_configured_number() -> None:
    frozen = [frozen_stages_at(epoch, frozen_stages=3, unfreeze_every_epochs=2) for epoch in range(8)]
    assert frozen == [5, 5, 4, 4, 3, 3, 3, 3]
    assert frozen_stages_at(0, frozen_stages=2, unfreeze_every_epochs=None) == 2
