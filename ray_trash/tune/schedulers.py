"""Who stops losing trials. The config as written, trial 0, is never stopped: the sweep ends no worse than it."""

from __future__ import annotations

from typing import Any

from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, TrialScheduler

from ray_trash.config import Config
from ray_trash.train.loop import IS_OVER
from ray_trash.tune.trials import AS_WRITTEN

EPOCH = "epoch"
"""The result that counts time."""


class _SparesAsWritten:
    """Records the epoch after which a trial was stopped, by run directory, and spares the config as written."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.stopped: dict[str, int] = {}

    def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
        decision: str = super().on_trial_result(controller, trial, result)  # type: ignore[misc]
        if decision != TrialScheduler.STOP:
            return decision
        if trial.config["number"] == AS_WRITTEN or result[IS_OVER]:
            return str(TrialScheduler.CONTINUE)
        self.stopped[trial.config["run"]] = result[EPOCH]
        return decision


class Asha(_SparesAsWritten, ASHAScheduler):
    """Source: Li et al., "A System for Massively Parallel Hyperparameter Tuning", 2020."""


class Median(_SparesAsWritten, MedianStoppingRule):
    """Stops what is below the median. Source: Golovin et al., "Google Vizier", 2017."""


class Nobody(_SparesAsWritten, FIFOScheduler):
    """Stops no trial."""


Scheduler = Asha | Median | Nobody


def build_scheduler(config: Config) -> Scheduler:
    """Build the scheduler of the config."""
    tune = config.tune
    if tune.scheduler == "none":
        return Nobody()
    if tune.scheduler == "median":
        return Median(time_attr=EPOCH, grace_period=tune.grace_epochs, min_samples_required=2)
    return Asha(
        time_attr=EPOCH,
        max_t=max(config.train.epochs, tune.grace_epochs + 1),
        grace_period=tune.grace_epochs,
        reduction_factor=tune.reduction_factor,
        stop_last_trials=False,
    )
