"""Shortcut probes: what a classifier gets without looking at the object.

Where the corners of a photo, or the size of its file, tell the classes apart, a network can learn those and fail on
other photos.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ray_trash.audit.document import ProbeResult
from ray_trash.dataset.groups.sketches import bytes_matrix
from ray_trash.evaluate.metrics import wilson_interval

MIN_PHOTOS = 30
"""Photos to score below which no accuracy is worth a sentence."""
_MAX_PHOTOS = 5000
"""Photos to learn from, and to score; more change an accuracy by less than its interval."""
_FOLDS = 5
_TREES = 100
"""Scikit-learn's own."""
_MIN_VALUES_FOR_THREADS = 500_000
"""Below so many numbers to learn from, threads take longer to begin and end than they save. Measured on two processors:
100 thumbnails are as quick with them as without, 300 take two thirds of the time."""


class Probed(NamedTuple):
    """Photos that are learnt from or scored, n.

    Attributes:
        photos: Their catalog rows, with the column `split`.
        summaries: Of their sketches.
        thumbnails: Each as one row of bytes, (n, bytes).
        groups: Their group numbers, (n,): photos that show the same are never learnt from and scored.
    """

    photos: pa.Table
    summaries: pa.Table
    thumbnails: NDArray[np.uint8]
    groups: NDArray[np.int64]


class _Probe(NamedTuple):
    what: str
    margin: float
    """How far the accuracy must be above the largest class, at the lower end of its interval, to be flagged."""
    flagged: str
    clean: str
    values: Callable[[Probed], NDArray[Any]]
    """Takes the features (n, F)."""


def _files(probed: Probed) -> NDArray[np.float64]:
    photos = probed.photos
    size, width, height = (photos[name].to_numpy().astype(float) for name in ("size_bytes", "width", "height"))
    return np.stack([size, width, height, width / height, size / (width * height)], axis=1)


PROBES = {
    "corners": _Probe(
        "the colours of the four corners",
        0.10,
        "the background tells the classes apart: a network can learn it in place of the object",
        "the background says little about the class",
        lambda probed: bytes_matrix(probed.summaries["corners"]),
    ),
    "thumbnail": _Probe(
        "a thumbnail of 32x24",
        0.40,
        "blurred colours are nearly enough: the set is easy, or gives its classes away",
        "shapes and textures are needed",
        lambda probed: probed.thumbnails,
    ),
    "file": _Probe(
        "size and shape of the file",
        0.10,
        "how the files were made tells the classes apart: photos of other sources will be judged by it",
        "how the files were made says little about the class",
        _files,
    ),
}
"""The margins leave room for what a small set gives by chance; a thumbnail shows the object too, so it may know
more."""


def make_trees(values: NDArray[Any]) -> Any:
    """Make an untrained classifier for features (N, F); it uses every processor where that is quicker."""
    # Takes a second to load, which only an audit should cost.
    from sklearn.ensemble import ExtraTreesClassifier

    n_jobs = -1 if values.size >= _MIN_VALUES_FOR_THREADS else 1
    return ExtraTreesClassifier(_TREES, min_samples_leaf=2, random_state=0, n_jobs=n_jobs)


def probed_positions(photos: pa.Table) -> NDArray[np.int64]:
    """Choose which photos are worth learning from and scoring, of catalog rows of accepted ones: sorted positions."""
    return np.sort(np.concatenate([_some_on(photos, "train"), _some_on(photos, "val")]))


def run_probe(name: str, probed: Probed) -> ProbeResult | None:
    """Train and score a probe; None where there are too few photos."""
    photos, probe = probed.photos, PROBES[name]
    rounds, scored_on = _rounds(_some_on(photos, "train"), _some_on(photos, "val"), probed.groups)
    labels = np.array(photos["label"].to_pylist())
    if not rounds or all(len(set(labels[learn])) < 2 for learn, _ in rounds):
        return None
    scored = np.concatenate([test for _, test in rounds])
    majority = max(Counter(labels[scored].tolist()).values()) / len(scored)
    values = probe.values(probed)
    correct = sum(_correct(values, labels, learn, test) for learn, test in rounds)
    low, high = wilson_interval(correct, len(scored))
    flagged = low > min(majority + probe.margin, (1 + majority) / 2)
    return {
        "what": probe.what,
        "n": len(scored),
        "correct": correct,
        "accuracy": correct / len(scored),
        "accuracy_ci95": [low, high],
        "majority": majority,
        "scored_on": scored_on,
        "flagged": flagged,
        "verdict": probe.flagged if flagged else probe.clean,
    }


def _some_on(photos: pa.Table, side: str) -> NDArray[np.int64]:
    # From everywhere in the list: it is sorted by path, so the first ones are of one class.
    positions = np.flatnonzero(np.asarray(pc.fill_null(pc.equal(photos["split"], side), False)))
    some = np.linspace(0, len(positions) - 1, min(len(positions), _MAX_PHOTOS))
    return positions[some.astype(np.int64)]


def _rounds(
    learn: NDArray[np.int64], test: NDArray[np.int64], groups: NDArray[np.int64]
) -> tuple[list[tuple[NDArray[np.int64], NDArray[np.int64]]], str]:
    if len(test) >= MIN_PHOTOS:
        leaked = np.isin(groups[learn], groups[test])
        return ([(learn[~leaked], test)] if (~leaked).sum() >= MIN_PHOTOS else []), "val"
    if len(learn) < MIN_PHOTOS or len(np.unique(groups[learn])) < _FOLDS:
        return [], "folds"
    from sklearn.model_selection import GroupKFold

    folds = GroupKFold(_FOLDS, shuffle=True, random_state=0).split(learn, groups=groups[learn])
    return [(learn[these], learn[those]) for these, those in folds], "folds"


def _correct(values: NDArray[Any], labels: NDArray[np.str_], learn: NDArray[np.int64], test: NDArray[np.int64]) -> int:
    trees = make_trees(values[learn])
    trees.fit(values[learn], labels[learn])
    return int((trees.predict(values[test]) == labels[test]).sum())
