"""What a sweep of many trials trains, and what its winner is worth, simulated: `python -m benchmarks.scale_sweep`.

Trials are drawn with an accuracy that each would reach, learn towards it, and are measured on so many validation
photos, so that what is seen is the truth and noise. Ray's own successive halving decides, trial after trial as they
report, on so many places. Nothing is trained: what is asked is how many epochs the scheduler lets through, how long
that takes in epochs of one trial, what the winner's figure promises, and what it is. Means over several sweeps.
"""

from __future__ import annotations

import argparse
import heapq
import sys
from types import SimpleNamespace
from typing import cast

import numpy as np
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from ray.tune.schedulers.async_hyperband import _Bracket

from benchmarks.figures import Figure, conclude

RISE_EPOCHS = 4.0
"""Epochs in which what is still to be learnt falls to a third."""


def main() -> None:
    """Simulate, and print a table, a line for each number of trials."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[16, 100, 1000])
    parser.add_argument("--places", type=int, default=64, help="trials at a time (64)")
    parser.add_argument("--epochs", type=int, default=40, help="of a trial that is not stopped (40)")
    parser.add_argument("--reduction-factor", type=int, default=4)
    parser.add_argument("--accuracy", type=float, default=0.94, help="what trials reach on average (0.94)")
    parser.add_argument("--spread", type=float, default=0.01, help="standard deviation of what they reach (0.01)")
    parser.add_argument("--photos", type=int, default=328, help="photos to validate on (328, as TrashNet has)")
    parser.add_argument("--sweeps", type=int, default=20, help="sweeps to average over (20)")
    options = parser.parse_args()
    sys.stdout.write("trials  epochs  of a full grid  as long as  winner promises   is  best there was\n")
    told = []
    for trials in options.trials:
        n_epochs, length, promised, true, best = np.mean(
            [simulate(options, trials, np.random.default_rng(seed)) for seed in range(options.sweeps)], axis=0
        )
        told.append(Figure(f"{trials} trials: winner below the best there was", 100 * (best - true), "points"))
        share = n_epochs / (trials * options.epochs)
        sys.stdout.write(
            f"{trials:6}  {n_epochs:6.0f}  {100 * share:11.0f} %  {length:3.0f} epochs  {100 * promised:13.1f} %  "
            f"{100 * true:4.1f} %  {100 * best:10.1f} %\n"
        )
    conclude(told)


def simulate(
    options: argparse.Namespace, trials: int, rng: np.random.Generator
) -> tuple[float, float, float, float, float]:
    """Return the epochs trained, the sweep's length in epochs, and what the winner shows, is, and the best one is."""
    bracket = _Bracket(1, options.epochs, options.reduction_factor, 0, stop_last_trials=False)
    reached = np.clip(rng.normal(options.accuracy, options.spread, trials), 0, 1)
    places = min(options.places, trials)
    # A trial's next report is an epoch after its last; epochs differ a little, as machines do.
    reports = [(rng.normal(1, 0.02), trial, 1) for trial in range(places)]
    heapq.heapify(reports)
    waiting = iter(range(places, trials))
    shown: dict[int, float] = {}
    n_epochs, now = 0, 0.0
    while reports:
        now, trial, epoch = heapq.heappop(reports)
        n_epochs += 1
        truth = reached[trial] * (1 - np.exp(-epoch / RISE_EPOCHS))
        measured = float(rng.binomial(options.photos, truth) / options.photos)
        shown[trial] = max(shown.get(trial, 0.0), measured)
        decision = bracket.on_result(cast(Trial, SimpleNamespace(trial_id=str(trial))), epoch, measured)
        if decision == TrialScheduler.CONTINUE and epoch < options.epochs:
            heapq.heappush(reports, (now + rng.normal(1, 0.02), trial, epoch + 1))
        elif (following := next(waiting, None)) is not None:
            heapq.heappush(reports, (now + rng.normal(1, 0.02), following, 1))
    winner = max(shown, key=lambda trial: shown[trial])
    return n_epochs, now, shown[winner], float(reached[winner]), float(reached.max())


if __name__ == "__main__":
    main()
