"""Who is stopped: losing trials, but never the config as written, and nobody at the last epoch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import TrialScheduler

from ray_trash.config import Config
from ray_trash.tune.schedulers import Median, Nobody, build_scheduler


def a_trial(number: int) -> Any:
    return SimpleNamespace(config={"number": number, "run": f"trials/{number:03d}"}, trial_id=str(number))


def a_scheduler(name: str) -> Any:
    config = Config.model_validate(
        {
            "name": "n",
            "data": {"root": "unused"},
            "train": {"epochs": 9},
            "tune": {"scheduler": name, "reduction_factor": 3},
        }
    )
    scheduler = build_scheduler(config)
    scheduler.set_search_properties("val_loss", "min")
    return scheduler


def decisions(scheduler: Any, losses: dict[int, float], epoch: int, *, is_over: bool = False) -> dict[int, str]:
    found = {}
    for number, loss in losses.items():
        trial = a_trial(number)
        scheduler.on_trial_add(None, trial)
        found[number] = scheduler.on_trial_result(
            SimpleNamespace(), trial, {"epoch": epoch, "val_loss": loss, "is_over": is_over}
        )
    return found


def test_asha_stops_what_is_below_the_best_third_and_says_when() -> None:
    scheduler = a_scheduler("asha")
    found = decisions(scheduler, {1: 1.0, 2: 1.1, 3: 5.0, 4: 9.0}, epoch=1)
    assert found[1] == TrialScheduler.CONTINUE
    assert found[4] == TrialScheduler.STOP
    assert scheduler.stopped["trials/004"] == 1


def test_the_config_as_written_is_never_stopped() -> None:
    scheduler = a_scheduler("asha")
    assert decisions(scheduler, {1: 1.0, 2: 1.1, 3: 1.2, 0: 99.0}, epoch=1)[0] == TrialScheduler.CONTINUE
    assert "trials/000" not in scheduler.stopped


def test_a_trial_that_has_ended_by_itself_is_not_called_stopped() -> None:
    scheduler = a_scheduler("asha")
    decisions(scheduler, {1: 1.0, 2: 1.1, 3: 1.2}, epoch=1)
    assert decisions(scheduler, {4: 99.0}, epoch=1, is_over=True)[4] == TrialScheduler.CONTINUE
    assert "trials/004" not in scheduler.stopped


def test_the_median_rule_is_built_where_it_is_asked_for() -> None:
    assert isinstance(a_scheduler("median"), Median)


def test_nobody_is_stopped_where_nobody_should_be() -> None:
    assert isinstance(a_scheduler("none"), Nobody)
    found = decisions(Nobody(), {1: 1.0, 2: 1.1, 3: 5.0, 4: 9.0}, epoch=1)
    assert set(found.values()) == {TrialScheduler.CONTINUE}
