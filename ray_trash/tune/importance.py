"""How much each searched key mattered to the score: trials in, shares out. No Ray, no torch, no files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ray_trash.config.tune import Dimension
from ray_trash.tune.trials import TrialRecord

MIN_TRIALS = 6
"""With fewer trials that have a score, a forest has nothing to split."""

_TREES = 100
_REPEATS = 10
_ROUNDING = 1e-9
"""Less than this share of the scores' variance is rounding, not a difference."""


def importances(records: Sequence[TrialRecord], space: Mapping[str, Dimension]) -> dict[str, float]:
    """Estimate how much each searched key matters to the best value of a trial.

    Rough with few trials: below some thirty, read the order and not the shares, and expect a key that matters little
    to change places with one that does not matter. It says nothing of direction, and a key whose effect
    depends on another shares its part with that one.

    Args:
        records: All trials; failed ones and those without a finite value are left out, pruned ones count with their
            best value so far.
        space: The searched keys, which every record has in its params.

    Returns:
        Key to its share, at least 0, in the order of the space. The shares add up to 1, or are all 0 where no key
        matters; empty where fewer than six trials have a value.

    Source: permutation importance of a random forest, Breiman 2001, "Random forests", Machine Learning 45, 5-32,
    section 10, here from the error on the trials the forest was grown from, which are too few to keep any back.
    """
    scored = [
        record
        for record in records
        if record.status != "failed" and record.best_value is not None and math.isfinite(record.best_value)
    ]
    if not space or len(scored) < MIN_TRIALS:
        return {}
    from sklearn.ensemble import RandomForestRegressor

    points = np.array([[_encoded(record.params[key], space[key]) for key in space] for record in scored])  # (N, keys)
    scores = np.array([record.best_value for record in scored], np.float64)
    forest = RandomForestRegressor(_TREES, random_state=0, n_jobs=1).fit(points, scores)
    random = np.random.default_rng(0)
    # One call predicts for all keys and repeats; scikit-learn's own function makes a call for each, which costs four
    # times what the forest does.
    permuted = np.tile(points, (len(space), _REPEATS, 1, 1))  # (keys, repeats, N, keys)
    for column in range(len(space)):
        permuted[column, ..., column] = random.permuted(permuted[column, ..., column], axis=1)
    predicted = forest.predict(permuted.reshape(-1, len(space))).reshape(len(space), _REPEATS, len(scored))
    error = ((forest.predict(points) - scores) ** 2).mean()
    rises = np.maximum(((predicted - scores) ** 2).mean(axis=(1, 2)) - error, 0.0)  # (keys,)
    total = float(rises.sum())
    if total <= _ROUNDING * float(scores.var()):
        return dict.fromkeys(space, 0.0)
    return {key: float(rise) / total for key, rise in zip(space, rises, strict=True)}


def _encoded(value: Any, dimension: Dimension) -> float:
    """Place a value where a tree can split it from others.

    The config as written may hold what the space does not: that lies past the last choice, or below the range.
    """
    if dimension.choice is not None and not all(_is_number(choice) for choice in dimension.choice):
        choices = list(dimension.choice)
        return float(choices.index(value)) if value in choices else float(len(choices))
    if dimension.loguniform is not None:
        low = dimension.loguniform[0]
        return math.log10(value) if _is_number(value) and value > 0 else math.log10(low) - 1
    if _is_number(value):
        return float(value)
    low, high = dimension.uniform or dimension.int or _ends(dimension.choice or ())
    return low - (high - low) - 1.0


def _ends(choices: Sequence[Any]) -> tuple[float, float]:
    return min(choices), max(choices)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
