"""Whether a candidate is really better than the config as written: answers right or wrong in, intervals out.

Letters in shapes: S trainings with different seeds, N validation photos, K kinds of photos, R resamples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ray_trash.terminal.text import counted
from ray_trash.tune.trials import AS_WRITTEN

FALSE_ALARMS = 0.05
"""How often a sweep without any true difference may find one, in either direction, all its candidates together."""
_CELLS_PER_CHUNK = 2_000_000
"""Counts held at once: 16 MB of integers, and as much again as floats."""
_TWO_DECIMALS_FROM = 10_000
"""So many photos tell apart hundredths of a percentage point."""


@dataclass(frozen=True)
class Comparison:
    """A candidate against the config as written.

    Attributes:
        difference: Mean accuracy of the candidate less that of the config as written, -1..1, in an interval from `low`
            to `high` whose level is corrected for the number of candidates.
        p_value: Two-sided, multiplied by the number of candidates, at most 1.
        significant: The whole interval is above 0.
    """

    difference: float
    low: float
    high: float
    p_value: float
    significant: bool


@dataclass(frozen=True)
class Verdict:
    """What the trainings with fresh seeds say, by trial number; JSON turns these into strings.

    Attributes:
        winner: The trial to keep; 0 where no candidate is significantly better.
        accuracies: Of every contender, one for each seed, 0..1.
        n_photos: Validation photos that each training was scored on.
        seeds: Trainings of each contender.
    """

    winner: int
    comparisons: Mapping[int, Comparison]
    accuracies: Mapping[int, tuple[float, ...]]
    n_photos: int
    seeds: int


def compare(
    candidate: NDArray[np.bool_],
    baseline: NDArray[np.bool_],
    *,
    n_comparisons: int,
    seed: int = 0,
    n_resamples: int = 10_000,
) -> Comparison:
    """Estimate how sure a difference in accuracy is, by a paired bootstrap over photos and seeds.

    Each resample draws N photos with replacement, the same for both sides, and on each side one training less
    than it has, with replacement, so that the spread over seeds is not understated; the ends of the interval are
    percentiles of the differences. With one training a side the photos alone are resampled, and what another seed
    would have given is not seen. The result is the same for any order of the photos.

    Both sides are (S, N) bool, whether each training is right on each photo, the photos in the same order; S may
    differ. `n_comparisons` candidates are compared with this baseline: the level is 1 - 0.05 / n_comparisons.

    Sources: Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapters 8 (data of more than one sample)
    and 13 (percentile intervals); Davison and Hinkley 1997, "Bootstrap Methods and their Application", chapter 4 (the
    observed sample counted in a p-value); Bonferroni 1936 and Dunn 1961, "Multiple comparisons among means", JASA 56,
    52-64 (the level divided by the number of comparisons).
    """
    if candidate.ndim != 2 or baseline.ndim != 2 or candidate.shape[1] != baseline.shape[1]:
        raise ValueError(f"expected two (S, N) of the same N photos, got {candidate.shape} and {baseline.shape}")
    if candidate.dtype != np.bool_ or baseline.dtype != np.bool_:
        raise ValueError(f"expected bool, got {candidate.dtype} and {baseline.dtype}")
    if not candidate.size or not baseline.size:
        raise ValueError(f"nothing to compare: {len(candidate)} and {len(baseline)} trainings on {candidate.shape[1]}")
    if n_comparisons < 1 or n_resamples < 1:
        raise ValueError(f"compare: {n_comparisons} comparisons and {n_resamples} resamples; give 1 or more of each")
    differences = _resampled_differences(candidate, baseline, np.random.default_rng(seed), n_resamples)  # (R,)
    tail = FALSE_ALARMS / n_comparisons / 2
    low, high = np.quantile(differences, [tail, 1 - tail])
    # The observed sample counts as one more resample, so that no p-value is 0.
    rarer_side = (min((differences <= 0).sum(), (differences >= 0).sum()) + 1) / (n_resamples + 1)
    return Comparison(
        difference=float(candidate.mean() - baseline.mean()),
        low=float(low),
        high=float(high),
        p_value=float(min(1.0, 2 * rarer_side * n_comparisons)),
        significant=bool(low > 0),
    )


def judge(correct: Mapping[int, NDArray[np.bool_]], *, seed: int = 0) -> Verdict:
    """Choose between the config as written, trial 0, and the candidates.

    `correct` is trial number to (S, N) bool, whether each training is right on each photo; the same photos in the same
    order for all. The winner is the significant candidate with the largest mean accuracy, of equals the first trial,
    and trial 0 where there is none.
    """
    if AS_WRITTEN not in correct:
        raise ValueError(f"the config as written, trial {AS_WRITTEN}, is not among the trials {sorted(correct)}")
    shapes = {trial: answers.shape for trial, answers in sorted(correct.items())}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"expected the same trainings and photos for every trial, got {shapes}")
    baseline = correct[AS_WRITTEN]
    candidates = [trial for trial in sorted(correct) if trial != AS_WRITTEN]
    comparisons = {
        trial: compare(correct[trial], baseline, n_comparisons=len(candidates), seed=seed) for trial in candidates
    }
    better = [trial for trial in candidates if comparisons[trial].significant]
    seeds, n_photos = baseline.shape
    return Verdict(
        winner=max(better, key=lambda trial: int(correct[trial].sum()), default=AS_WRITTEN),
        comparisons=comparisons,
        accuracies={trial: tuple(correct[trial].mean(axis=1).tolist()) for trial in sorted(correct)},
        n_photos=n_photos,
        seeds=seeds,
    )


def verdict_lines(verdict: Verdict) -> list[str]:
    """Say a verdict in words: a line for each candidate, and the verdict last."""
    decimals = 1 if verdict.n_photos < _TWO_DECIMALS_FROM else 2
    measured = f"on {counted(verdict.n_photos, 'photo')} over {counted(verdict.seeds, 'seed')}"

    def points(share: float) -> str:
        return f"{100 * share:+z.{decimals}f}"

    lines = []
    for trial, comparison in sorted(verdict.comparisons.items()):
        interval = f"({points(comparison.low)} to {points(comparison.high)})"
        gain = f"{points(comparison.difference)} points {measured} {interval}"
        loss = "a significant loss" if comparison.high < 0 else "no significant gain"
        meaning = "a significant gain" if comparison.significant else loss
        lines.append(f"trial {trial} against the config as written: {gain}: {meaning}")
    if verdict.winner == AS_WRITTEN:
        return [*lines, "verdict: no significant gain over the config as written, which is kept"]
    return [*lines, f"verdict: trial {verdict.winner} is better than the config as written"]


def _resampled_differences(
    candidate: NDArray[np.bool_], baseline: NDArray[np.bool_], random: np.random.Generator, n_resamples: int
) -> NDArray[np.float64]:
    # Photos that every training answers alike are interchangeable. How often each kind is drawn is multinomial, which
    # is the same as drawing N photos one by one and costs K numbers a resample in place of N.
    answers = np.concatenate([candidate, baseline]).T  # (N, S + S)
    kinds, n_of_kind = np.unique(answers, axis=0, return_counts=True)  # (K, S + S), (K,)
    n_photos, n_ours, n_theirs = len(answers), _n_drawn(len(candidate)), _n_drawn(len(baseline))
    kinds_right = kinds.astype(np.float64)
    differences = np.empty(n_resamples)
    rows = max(1, _CELLS_PER_CHUNK // len(kinds))
    for start in range(0, n_resamples, rows):
        n = min(rows, n_resamples - start)
        drawn = random.multinomial(n_photos, n_of_kind / n_photos, size=n)  # (n, K)
        right = drawn @ kinds_right  # (n, S + S), whole numbers
        ours = _resampled_trainings(right[:, : len(candidate)], random)
        theirs = _resampled_trainings(right[:, len(candidate) :], random)
        # Whole numbers up to the division: a tie is exactly 0.
        differences[start : start + n] = ours * n_theirs - theirs * n_ours
    return differences / (n_photos * n_ours * n_theirs)


def _resampled_trainings(right: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    """Draw trainings with replacement, (n, S) right answers to their sums (n,)."""
    n_resamples, n_trainings = right.shape
    times = random.multinomial(_n_drawn(n_trainings), np.full(n_trainings, 1 / n_trainings), size=n_resamples)  # (n, S)
    total: NDArray[np.float64] = (right * times).sum(axis=1)
    return total


def _n_drawn(n_trainings: int) -> int:
    # As many as there are would understate by (S - 1) / S how much seeds differ, much for three of them.
    return max(1, n_trainings - 1)
