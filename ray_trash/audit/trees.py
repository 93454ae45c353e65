"""The classifier that probes and suspects learn with: it takes numbers of any scale, and needs no tuning."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

_TREES = 200
_MIN_VALUES_FOR_THREADS = 500_000
"""Below so many numbers to learn from, threads take longer to begin and end than they save. Measured on two processors:
100 thumbnails are as quick with them as without, 300 take two thirds of the time."""


def make_trees(values: NDArray[Any]) -> Any:
    """Make an untrained classifier for features (N, F); it uses every processor where that is quicker."""
    # Takes a second to load, which only an audit should cost.
    from sklearn.ensemble import ExtraTreesClassifier

    n_jobs = -1 if values.size >= _MIN_VALUES_FOR_THREADS else 1
    return ExtraTreesClassifier(_TREES, min_samples_leaf=2, random_state=0, n_jobs=n_jobs)
