"""How much each searched key mattered to the score: trials in, shares out. No Ray, no torch, no files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ray_trash.config.tune import Dimension
from ray_trash.tune.space import height_in
from ray_trash.tune.trials import TrialRecord

MIN_TRIALS = 6
"""With fewer trials that have a score, a forest has nothing to split."""
_TREES = 50
_REPEATS = 5
_ROUNDING = 1e-9
"""Less than this share of the scores' variance is rounding, not a difference."""


def importances(records: Sequence[TrialRecord], space: Mapping[str, Dimension]) -> dict[str, float]:
    """Estimate how much each searched key matters to the best value of a trial.

    Rough with few trials: below some thirty, read the order and not the shares. It says nothing of direction, and a
    key whose effect depends on another shares its part with that one. Failed trials do not count, pruned ones with
    their best value so far.

    Returns the share of each key, in the order of the space. Shares add up to 1, or are all 0 where no key matters;
    there are none where fewer than six trials have a finite value.

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
    from sklearn.inspection import permutation_importance

    points = np.array([[height_in(space[key], record.params[key]) for key in space] for record in scored])  # (N, keys)
    scores = np.array([record.best_value for record in scored], np.float64)
    forest = RandomForestRegressor(_TREES, random_state=0).fit(points, scores)
    found = permutation_importance(
        forest, points, scores, scoring="neg_mean_squared_error", n_repeats=_REPEATS, random_state=0
    )
    rises = np.maximum(found.importances_mean, 0.0)  # (keys,)
    total = float(rises.sum())
    if total <= _ROUNDING * float(scores.var()):
        return dict.fromkeys(space, 0.0)
    return {key: float(rise) / total for key, rise in zip(space, rises, strict=True)}
