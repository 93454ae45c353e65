"""How long the trials of a sweep take together: its own scheduler, played with trials whose results are drawn."""

from __future__ import annotations

import heapq
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ray.tune.schedulers import TrialScheduler

from ray_trash.config import Config
from ray_trash.evaluate.metrics import direction_of
from ray_trash.train.loop import IS_OVER
from ray_trash.tune.schedulers import EPOCH, Scheduler, build_scheduler
from ray_trash.tune.search import Point

REPEATS = 32
"""Sweeps that are played; the mean of so many moves by a few percent of a sweep."""


@dataclass(frozen=True)
class TrialPace:
    """One trial: seconds until its first epoch and of an epoch, and how many epochs it has if nobody stops it."""

    start_s: float
    epoch_s: float
    epochs: int


@dataclass(frozen=True)
class Forecast:
    """Seconds until the last trial ends, and epochs trained over all trials: the mean of sweeps that were played."""

    seconds: float
    epochs: int


def forecast(config: Config, trials: Sequence[TrialPace], *, metric: str, concurrent: int, seed: int = 0) -> Forecast:
    """Play the sweep with the scheduler of the config.

    A trial keeps its rank from its first epoch on; the others are drawn below the config as written, which somebody
    chose: it was the best one in every sweep whose figures this repository shows.
    """
    random, best = np.random.default_rng(seed), len(trials)
    played = [
        _play(build_scheduler(config), trials, [best, *random.permutation(best - 1).tolist()], metric, concurrent)
        for _ in range(REPEATS if config.tune.scheduler != "none" else 1)
    ]
    return Forecast(statistics.fmean(s for s, _ in played), round(statistics.fmean(n for _, n in played)))


def to_their_end(trials: Sequence[TrialPace], *, concurrent: int) -> Forecast:
    """Say how long trials take that nobody stops."""
    return Forecast(*_run(trials, concurrent, lambda number, epoch: False))


class _Trial:
    """What a scheduler asks of one."""

    def __init__(self, number: int) -> None:
        self.trial_id = str(number)
        self.config = {"number": number, "run": Point.of_trial(number, {}).run}


class _Controller:
    """What a scheduler asks of Ray Tune: no trial waits for another to yield its time."""

    def get_live_trials(self) -> list[Any]:
        return []


def _play(
    scheduler: Scheduler, trials: Sequence[TrialPace], ranks: Sequence[int], metric: str, concurrent: int
) -> tuple[float, int]:
    controller: Any = _Controller()
    mode = direction_of(metric)
    scheduler.set_search_properties(metric, mode)
    stand_ins: list[Any] = [_Trial(number) for number in range(len(trials))]
    for trial in stand_ins:
        scheduler.on_trial_add(controller, trial)

    def is_stopped(number: int, epoch: int) -> bool:
        value = float(ranks[number]) * (1 if mode == "max" else -1)
        result = {EPOCH: epoch, metric: value, IS_OVER: epoch == trials[number].epochs}
        stops = scheduler.on_trial_result(controller, stand_ins[number], result) == TrialScheduler.STOP
        if stops or result[IS_OVER]:
            scheduler.on_trial_complete(controller, stand_ins[number], result)
        return stops

    return _run(trials, concurrent, is_stopped)


def _run(trials: Sequence[TrialPace], concurrent: int, is_stopped: Callable[[int, int], bool]) -> tuple[float, int]:
    """Return when the last of the trials ends, so many at a time, and how many epochs they have trained."""
    waiting = list(range(len(trials)))
    ends: list[tuple[float, int, int]] = []  # when an epoch ends, of which trial, which epoch
    now_s, n_epochs = 0.0, 0
    while waiting or ends:
        while waiting and len(ends) < concurrent:
            number = waiting.pop(0)
            heapq.heappush(ends, (now_s + trials[number].start_s + trials[number].epoch_s, number, 1))
        now_s, number, epoch = heapq.heappop(ends)
        n_epochs += 1
        if not is_stopped(number, epoch) and epoch < trials[number].epochs:
            heapq.heappush(ends, (now_s + trials[number].epoch_s, number, epoch + 1))
    return now_s, n_epochs
