"""Photos whose label is doubtful, and photos that stand out: both for a person to look at, most doubtful first."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ray_trash.audit.document import Outlier, Suspect
from ray_trash.audit.probes import make_trees
from ray_trash.dataset.groups.near import MIN_SHARED_POINTS

SUSPECTS_MAX = 50
BLURRED_BELOW = 15.0
"""Variance of the Laplacian. In TrashNet, at this size, one photo in a thousand is below, and those are blurred."""
EMPTY_BELOW = 6.0
"""Standard deviation of luma: nothing stands out from the background."""
EXPOSURE_ABOVE = 0.9
"""Share of black or of white pixels."""
ODD_SHAPE_ABOVE = 1.5
"""Ratio between a photo's aspect and the set's median aspect."""

_FOLDS = 5
_OWN_BELOW, _OTHER_ABOVE = 0.1, 0.6
"""Probabilities of the given class and of another, both estimated without the photo, that make it a suspect."""
_MAX_PHOTOS = 20_000


def are_suspects_looked_for(photos: pa.Table, groups: NDArray[np.int64]) -> bool:
    """Say whether `find_suspects` is worth the asking.

    It is not where a class has fewer than five groups, for there is nothing to learn from, nor where there are more
    than 20,000 photos: trees on so many thumbnails take hours.
    """
    return len(photos) <= _MAX_PHOTOS and _learnable(np.array(photos["label"].to_pylist()), groups)


def find_suspects(
    photos: pa.Table, groups: NDArray[np.int64], values: NDArray[Any], what: Literal["thumbnail", "features"]
) -> list[Suspect]:
    """Find photos that look like another class to a classifier that has not seen them, nor their copies.

    Args:
        photos: Catalog rows of accepted photos, N, for which `are_suspects_looked_for`.
        groups: Group number of each, (N,).
        values: What is looked at, (N, F): thumbnails, each as one row of bytes, or what a pretrained network makes of
            the photos.
        what: Which of the two.

    Returns:
        At most 50, highest score first.
    """
    labels = np.array(photos["label"].to_pylist())
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = make_trees(values)
    if what == "features":
        classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=200))
    folds = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=0)
    probabilities = cross_val_predict(classifier, values, labels, groups=groups, cv=folds, method="predict_proba")
    classes = np.unique(labels)
    own = probabilities[np.arange(len(labels)), np.searchsorted(classes, labels)]
    best = probabilities.argmax(axis=1)
    score = probabilities.max(axis=1)
    chosen = np.flatnonzero((own < _OWN_BELOW) & (score > _OTHER_ABOVE))
    paths = photos["path"].to_pylist()
    ranked = sorted(chosen.tolist(), key=lambda position: (-score[position], paths[position]))[:SUSPECTS_MAX]
    return [
        {
            "path": paths[position],
            "label": str(labels[position]),
            "suggested": str(classes[best[position]]),
            "score": round(float(score[position]), 4),
            "reason": f"its {what} looks like {classes[best[position]]} to a classifier trained without it",
        }
        for position in ranked
    ]


def find_outliers(photos: pa.Table, summaries: pa.Table) -> list[Outlier]:
    """Find photos that stand out by how they were taken, by kind and then by how far out they are.

    `summaries` are of the sketches of the photos, in the same order.
    """
    paths = photos["path"]
    aspect = photos["width"].to_numpy() / photos["height"].to_numpy()
    median = float(np.median(np.maximum(aspect, 1 / aspect))) if len(aspect) else 1.0
    long_over_short = np.maximum(aspect, 1 / aspect)
    oddness = np.maximum(long_over_short / median, median / long_over_short)
    columns = {name: summaries[name].to_numpy() for name in ("sharpness", "contrast", "dark_share", "bright_share")}
    empty = (columns["contrast"] < EMPTY_BELOW) & (summaries["n_points"].to_numpy() < MIN_SHARED_POINTS)
    tests = {
        "near_empty": (columns["contrast"], empty, 1),
        "blurred": (columns["sharpness"], (columns["sharpness"] < BLURRED_BELOW) & ~empty, 1),
        "dark": (columns["dark_share"], columns["dark_share"] > EXPOSURE_ABOVE, -1),
        "bright": (columns["bright_share"], columns["bright_share"] > EXPOSURE_ABOVE, -1),
        "odd_shape": (oddness, oddness > ODD_SHAPE_ABOVE, -1),
    }
    found: list[Outlier] = []
    for kind, (values, outside, direction) in tests.items():
        positions = np.flatnonzero(outside)
        named = zip(
            (direction * values[positions]).tolist(),
            paths.take(pa.array(positions)).to_pylist(),
            values[positions].tolist(),
            strict=True,
        )
        found += [{"path": path, "kind": kind, "value": round(value, 3)} for _, path, value in sorted(named)]
    return found


def _learnable(labels: NDArray[np.str_], groups: NDArray[np.int64]) -> bool:
    classes = np.unique(labels)
    return len(classes) > 1 and all(len(np.unique(groups[labels == name])) >= _FOLDS for name in classes)
