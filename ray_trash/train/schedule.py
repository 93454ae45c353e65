"""Learning rate, plateau and early stopping as values and pure functions; no model, no optimizer."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from ray_trash.config import TrainConfig
from ray_trash.evaluate.metrics import Direction, direction_of

_PACE_EPOCHS = 3
"""How many of the last epochs say how long the next ones take."""
_PACE_RESERVE = 1.05
"""How much longer the next epochs may take: where the last one no longer fits, the cosine ends above zero."""
StopKind = Literal["epochs", "time_budget", "no_gain"]
"""Why a run is over: all its epochs, the time for them, or early stopping. The first two may be given more."""


def is_better(value: float, best: float | None, direction: Direction) -> bool:
    """Compare a metric with the best so far; a value that is not finite is never better."""
    if not math.isfinite(value):
        return False
    return best is None or (value > best if direction == "max" else value < best)


@dataclass(frozen=True)
class CosineSoFar:
    """How far the cosine is at a step, 0 to 1: what is left of it belongs to the steps that are left."""

    step: int = 0
    share: float = 0.0

    def share_at(self, step: int, *, total_steps: int, warmup_steps: int) -> float:
        """Return how far it is at a later step, where the run has so many in all."""
        begins = max(self.step, warmup_steps)
        progress = max(0, step - begins) / max(1, total_steps - begins)
        return self.share + (1 - self.share) * min(1.0, progress)


def cosine_factor(step: int, *, total_steps: int, warmup_steps: int, so_far: CosineSoFar = CosineSoFar()) -> float:
    """Return the share of the peak learning rate at a step: linear to 1 over the warm-up, then half a cosine to 0.

    With `so_far`, from where the number of steps was last planned, it goes on from there without a jump, and never
    rises: a run that turns out slower or faster than it was planned ends at 0 all the same.

    Source: Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2017, without restarts.
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    share = so_far.share_at(step, total_steps=total_steps, warmup_steps=warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * share))


def learning_rate_at(
    step: int,
    peak: float,
    train: TrainConfig,
    *,
    total_steps: int,
    plateau_cuts: int,
    so_far: CosineSoFar = CosineSoFar(),
) -> float:
    """Return one group's learning rate, below its peak, at an optimizer step, from 0 over the whole run."""
    if train.schedule == "cosine":
        warmup_steps = train.warmup_steps
        return peak * cosine_factor(step, total_steps=total_steps, warmup_steps=warmup_steps, so_far=so_far)
    if train.schedule == "plateau":
        # A group that starts below the floor stays where it is.
        return max(peak * train.plateau_factor**plateau_cuts, min(peak, train.plateau_min_learning_rate))
    return peak


@dataclass(frozen=True)
class EpochsWaited:
    """Epochs since a metric was last better than at its best."""

    best: float | None = None
    waited: int = 0

    def after(self, value: float, direction: Direction) -> EpochsWaited:
        """Return the count after one more epoch."""
        if is_better(value, self.best, direction):
            return EpochsWaited(value, 0)
        return replace(self, waited=self.waited + 1)


@dataclass(frozen=True)
class RunState:
    """What a run has decided so far; resume restores it whole.

    Attributes:
        epochs_done: Epochs that are trained, validated and saved.
        plateau: Epochs since the monitored value was better or the rate was cut.
        stopping: Epochs since the monitored value was better.
        cosine: Where the steps of the run were last planned; at its beginning, unless a time budget plans them.
        best_value: Value of the selecting metric at the best epoch; None where none selects.
        best_epoch: From 1; 0 before there is one.
        epochs_s: Seconds of each epoch, with the writing that went before it.
        stop_kind: Why the run is over, in words in `stop_reason`; None while it is not.
    """

    epochs_done: int = 0
    steps_done: int = 0
    cosine: CosineSoFar = CosineSoFar()
    plateau: EpochsWaited = EpochsWaited()
    plateau_cuts: int = 0
    stopping: EpochsWaited = EpochsWaited()
    best_value: float | None = None
    best_epoch: int = 0
    epochs_s: tuple[float, ...] = ()
    stop_kind: StopKind | None = None
    stop_reason: str = ""

    def epochs_of(self, train: TrainConfig) -> int:
        """Return `train.epochs`, or as many as fit the time budget at the pace of the last; at least those done."""
        if train.time_budget_min is None or not self.epochs_s:
            return train.epochs
        left_s = max(0.0, 60 * train.time_budget_min - sum(self.epochs_s))
        fitting = int(left_s / (_PACE_RESERVE * statistics.median(self.epochs_s[-_PACE_EPOCHS:])))
        return max(self.epochs_done, min(train.epochs, self.epochs_done + fitting))

    def resumed(self, train: TrainConfig) -> RunState:
        """Return the state of a run that goes on, perhaps with more or less to do than it was begun with."""
        return self if self.stop_kind == "no_gain" else self._stopped_if_done(train)

    def _stopped_if_done(self, train: TrainConfig) -> RunState:
        epochs = self.epochs_of(train)
        if self.epochs_done < epochs:
            return replace(self, stop_kind=None, stop_reason="")
        if self.epochs_done >= train.epochs:
            return replace(self, stop_kind="epochs", stop_reason=f"trained all {train.epochs} epochs")
        reason = f"trained {epochs} of {train.epochs} epochs, as train.time_budget_min={train.time_budget_min:g} allows"
        return replace(self, stop_kind="time_budget", stop_reason=reason)

    def after_epoch(self, metrics: Mapping[str, float], steps: int, train: TrainConfig, *, seconds: float) -> RunState:
        """Return the state after one more epoch, which took so many seconds with the writing that went before it."""
        epochs_done = self.epochs_done + 1
        watched, direction = metrics[train.monitor], direction_of(train.monitor)
        plateau, cuts = self.plateau.after(watched, direction), self.plateau_cuts
        # Keras counts this way, and the recipe this project grew from is Keras': a cut starts a new wait.
        if train.schedule == "plateau" and plateau.waited >= max(1, train.plateau_patience_epochs):
            plateau, cuts = replace(plateau, waited=0), cuts + 1
        if train.select_by == "last":
            selected, better = None, True
        else:
            selected = metrics[train.select_by]
            better = is_better(selected, self.best_value, direction_of(train.select_by))
        after = RunState(
            epochs_done=epochs_done,
            steps_done=self.steps_done + steps,
            cosine=self._cosine_after(steps, train),
            plateau=plateau,
            plateau_cuts=cuts,
            stopping=self.stopping.after(watched, direction),
            best_value=selected if better else self.best_value,
            best_epoch=epochs_done if better else self.best_epoch,
            epochs_s=(*self.epochs_s, seconds),
        )._stopped_if_done(train)
        patience = train.early_stopping_patience_epochs
        if after.stop_kind is None and patience is not None and after.stopping.waited >= patience:
            reason = f"{train.monitor} was no better for {patience} epochs"
            return replace(after, stop_kind="no_gain", stop_reason=reason)
        return after

    def _cosine_after(self, steps: int, train: TrainConfig) -> CosineSoFar:
        if train.time_budget_min is None:
            return self.cosine
        done, total_steps = self.steps_done + steps, steps * self.epochs_of(train)
        share = self.cosine.share_at(done, total_steps=total_steps, warmup_steps=train.warmup_steps)
        return CosineSoFar(done, share)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> RunState:
        """Read what `to_json` gave."""
        waits = {name: EpochsWaited(**values[name]) for name in ("plateau", "stopping")}
        cosine = CosineSoFar(**values.get("cosine", {}))  # a run from before it was kept has none
        return cls(**{**values, **waits, "cosine": cosine, "epochs_s": tuple(values["epochs_s"])})


def frozen_stages_at(epoch: int, *, frozen_stages: int, unfreeze_every_epochs: int | None) -> int:
    """Return how many stages are frozen in an epoch, from 0: all five at first where they are freed one by one."""
    return max(frozen_stages, 5 - epoch // unfreeze_every_epochs) if unfreeze_every_epochs else frozen_stages
