"""Which photos show the same: found by keypoints, checked by geometry, and told apart by what lies between them.

Two photos that share keypoints under one turn, scaling and shift show the same thing.
Where their fine structure agrees too wherever they overlap, they are the same shot: a re-encoding, a crop, a turn, a
mirror image, another exposure, a neighbour in a burst. Where it does not, they show the same printed or rigid part,
such as one box from two sides. Other poses of an object without such a part are not found.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ray_trash.cluster.tasks import cluster_cpus, run_tasks, task
from ray_trash.cluster.waiting import fetch
from ray_trash.dataset.groups.candidates import find_candidates
from ray_trash.dataset.groups.relations import Relation
from ray_trash.dataset.groups.sketches import Keypoints, Sketches, bytes_matrix, keypoints_of, take_rows
from ray_trash.image.sketch import LUMA_HEIGHT_PX, LUMA_WIDTH_PX, mirrored
from ray_trash.terminal.bar import Bar
from ray_trash.terminal.say import Terminal

MIN_SHARED_POINTS = 12
"""Keypoints that two photos must share. Of 600 drawn pairs of unrelated photos of TrashNet none shares ten."""
MIN_AGREEMENT = 0.65
"""Correlation of fine structure, -1 to 1, from which two photos count as the same shot. Of the 38 pairs of TrashNet's
train and val above it, 22 are one shot to the eye (21 of them above 0.9) and 16 one thing from nearly the same side.
Made-up copies have 0.83 or more in the median of every kind, and 0.7 at the fifth percentile of the
hardest, those turned by ten and by 45 degrees."""
MIN_COVERAGE = 0.5
"""Share of one of the photos that the other must show as well."""

_MIN_SIMILARITY = 0.85
"""Cosine of two descriptors that may be the same point."""
_MAX_ERROR_PX = 3.0
_SCALES = (0.4, 2.5)
"""A copy scaled by more than this shares few points with a photo at the same sketch size."""
_FINE_PX, _COARSE_PX = 0.8, 2.5
"""Fine structure is what lies between these two blurs of the grey thumbnail: it survives other exposures, and a white
sheet on a white board has little in common with another one there."""
_CLIP = 2.0
"""Values beyond so many medians are cut: the hard edge of a black corner must not outweigh the whole photo."""
_MIN_OVERLAP_PIXELS = 60
_PAIRS_PER_TASK = 1024
_TASKS_PER_ROUND = 32
_COMPARED = ("points", "descriptors", "width_px", "height_px", "luma")


@dataclass(frozen=True)
class Shapes:
    """What is compared of photos, N: keypoints in them at these `sizes` (N, 2), and grey thumbnails (N, 72, 96)."""

    keypoints: Keypoints
    lumas: NDArray[np.uint8]
    sizes: NDArray[np.float64]


def find_near_pairs(
    sketches: Sketches, wanted: NDArray[np.bool_], sample: NDArray[np.int64], terminal: Terminal
) -> list[Relation]:
    """Find all `near` and `object` pairs of photos with different content, sorted.

    `wanted` (photos,) says which sketches are compared; from `sample`, positions chosen by content, the scaling of
    descriptors is taken.
    """
    candidates = find_candidates(sketches, wanted, sample, terminal)
    check = task(_check_chunk)
    rows, what = sketches.summary["row"].to_numpy(), "the comparison of photos"
    found: list[Relation] = []
    with Bar(terminal, total=len(candidates), noun="pairs", doing="comparing") as bar:
        # In rounds, so that only the details of some photos are in memory twice.
        for start in range(0, len(candidates), _PAIRS_PER_TASK * _TASKS_PER_ROUND):
            pairs = candidates[start : start + _PAIRS_PER_TASK * _TASKS_PER_ROUND]
            details = sketches.select(np.unique(pairs), _COMPARED, what=what)
            chunks = [pairs[first : first + _PAIRS_PER_TASK] for first in range(0, len(pairs), _PAIRS_PER_TASK)]
            starts = [partial(check, chunk, *details) for chunk in chunks]
            for number, reference in run_tasks(starts, at_once=cluster_cpus(), what=what):
                found += fetch(reference, what=what)
                bar.advance(len(chunks[number]))
    found.sort(key=lambda pair: (pair.first, pair.second))
    return [replace(pair, first=int(rows[pair.first]), second=int(rows[pair.second])) for pair in found]


def _check_chunk(pairs: NDArray[np.int64], *details: pa.Table) -> list[Relation]:
    photos = np.unique(pairs)
    positions = np.concatenate([table["position"].to_numpy() for table in details])
    shapes = shapes_of(take_rows(details, np.searchsorted(positions, photos)))
    found = check_pairs(shapes, np.searchsorted(photos, pairs))
    return [replace(pair, first=int(photos[pair.first]), second=int(photos[pair.second])) for pair in found]


def shapes_of(details: pa.Table) -> Shapes:
    """Take what is compared out of a table of details, in its order."""
    sizes = np.stack([details[name].to_numpy() for name in ("width_px", "height_px")], axis=1).astype(float)
    lumas = bytes_matrix(details["luma"]).reshape(-1, LUMA_HEIGHT_PX, LUMA_WIDTH_PX)
    return Shapes(keypoints_of(details), lumas, sizes)


def check_pairs(shapes: Shapes, candidates: NDArray[np.int64]) -> list[Relation]:
    """Keep the pairs of positions (n, 2) that share enough keypoints under one motion, turned over or not."""
    cv2.setNumThreads(1)
    checked = (_check_pair(shapes, first, second) for first, second in candidates.tolist())
    return [pair for pair in checked if pair is not None]


def _check_pair(shapes: Shapes, first: int, second: int) -> Relation | None:
    (here, ours), (there, theirs) = shapes.keypoints.of(first), shapes.keypoints.of(second)
    for turn_over in (False, True):
        flip = np.diag([-1.0 if turn_over else 1.0, 1.0, 1.0])
        places = there * flip.diagonal()[:2].astype(np.float32)
        motion, shared = _common_motion(here, ours, places, mirrored(theirs) if turn_over else theirs)
        if motion is not None and shared >= MIN_SHARED_POINTS:
            agreement, coverage = _compare_where_they_overlap(shapes, first, second, flip @ motion)
            same_shot = agreement >= MIN_AGREEMENT and coverage >= MIN_COVERAGE
            return Relation(first, second, "near" if same_shot else "object", shared, agreement, turn_over)
    return None


def _common_motion(
    here: NDArray[np.float32], ours: NDArray[np.uint8], there: NDArray[np.float32], theirs: NDArray[np.uint8]
) -> tuple[NDArray[np.float64] | None, int]:
    """Find the turn, scaling and shift (3, 3) from here to there that most keypoints follow, and count them."""
    if min(len(here), len(there)) < MIN_SHARED_POINTS:
        return None, 0
    similarity = _unit(ours) @ _unit(theirs).T
    best, own = similarity.argmax(axis=1), np.arange(len(here))
    matched = np.flatnonzero((similarity.argmax(axis=0)[best] == own) & (similarity[own, best] > _MIN_SIMILARITY))
    if len(matched) < MIN_SHARED_POINTS:
        return None, 0
    pairs = here[matched], there[best[matched]]
    motion, agreeing = cv2.estimateAffinePartial2D(*pairs, ransacReprojThreshold=_MAX_ERROR_PX)
    if motion is None or not _SCALES[0] <= np.hypot(motion[0, 0], motion[0, 1]) <= _SCALES[1]:
        return None, 0
    # A point with two directions is two keypoints in one place, and says no more than one.
    kept = agreeing.ravel().astype(bool)
    shared = min(len(np.unique(np.rint(places[kept]), axis=0)) for places in pairs)
    return np.vstack([motion, [0, 0, 1]]), shared


def _compare_where_they_overlap(
    shapes: Shapes, first: int, second: int, motion: NDArray[np.float64]
) -> tuple[float, float]:
    """Return the correlation of fine structure there, and the larger share of one that the other shows as well."""
    size = (LUMA_WIDTH_PX, LUMA_HEIGHT_PX)
    here, there = (_thumbnail_to_sketch(shapes.sizes[photo]) for photo in (first, second))
    motion = np.linalg.inv(there) @ motion @ here
    moved = cv2.warpAffine(_fine_structure(shapes.lumas[first]), motion[:2], size)
    overlap = cv2.warpAffine(np.ones(size[::-1], np.float32), motion[:2], size) > 0.99
    share_of_second = float(overlap.mean())
    share_of_first = share_of_second / max(abs(float(np.linalg.det(motion[:2, :2]))), 1e-6)
    coverage = min(1.0, max(share_of_first, share_of_second))
    if overlap.sum() < _MIN_OVERLAP_PIXELS:
        return 0.0, coverage
    one, other = _clipped(moved[overlap]), _clipped(_fine_structure(shapes.lumas[second])[overlap])
    spread = one.std() * other.std()
    return (float(((one - one.mean()) * (other - other.mean())).mean() / spread) if spread > 0 else 0.0), coverage


def _thumbnail_to_sketch(size: NDArray[np.float64]) -> NDArray[np.float64]:
    # Between centres of pixels: the first of a thumbnail lies half a thumbnail's pixel inside the photo.
    x, y = size[0] / LUMA_WIDTH_PX, size[1] / LUMA_HEIGHT_PX
    return np.array([[x, 0, x / 2 - 0.5], [0, y, y / 2 - 0.5], [0, 0, 1]])


def _fine_structure(luma: NDArray[np.uint8]) -> NDArray[np.float32]:
    values = luma.astype(np.float32)
    fine, coarse = (cv2.GaussianBlur(values, (0, 0), sigma_px) for sigma_px in (_FINE_PX, _COARSE_PX))
    return np.asarray(fine - coarse, np.float32)


def _clipped(values: NDArray[Any]) -> NDArray[Any]:
    limit = _CLIP * np.median(np.abs(values)) + 1e-3
    return np.asarray(np.clip(values, -limit, limit))


def _unit(descriptors: NDArray[np.uint8]) -> NDArray[np.float32]:
    sums = descriptors.sum(axis=1, keepdims=True, dtype=np.float32)
    return np.asarray(np.sqrt(descriptors / np.maximum(sums, 1)), np.float32)
