"""Accuracy on parts of the photos: bright ones, dark ones, sharp ones, those that have a twin.

Letters in shapes: N photos, H and W pixels of a photo that is looked at.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ray_trash.dataset.read import PhotoFolder
from ray_trash.errors import DataError
from ray_trash.evaluate.metrics import wilson_interval
from ray_trash.image.preprocess import Preprocessing

MOST_MEASURED = 1000
"""Photos that are looked at; of more, these are drawn by their hash."""
MEASURE_S = 6.0
"""How long photos are looked at, at most: a report is written in seconds, wherever the photos are."""
_SMALL = Preprocessing(size_px=96, stored_short_side_px=96, fit="stretch")
_BORDER_SHARE = 0.08
"""Width of the frame in which an object counts as near the border, of the photo's sides."""
_MIN_PHOTOS = 8
"""A quarter of fewer photos than four times this says nothing."""
_PER_ROUND = 32


@dataclass(frozen=True)
class Slice:
    """A part of the photos, in words, and how many of them are right."""

    what: str
    n: int
    correct: int

    @property
    def accuracy(self) -> float:
        """Share that is right, 0..1."""
        return self.correct / self.n

    @property
    def ci95(self) -> tuple[float, float]:
        """Wilson's interval of the accuracy."""
        return wilson_interval(self.correct, self.n)

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON holds them."""
        figures = {"n": self.n, "correct": self.correct, "accuracy": self.accuracy}
        return {"slice": self.what, **figures, "accuracy_ci95": list(self.ci95)}


@dataclass(frozen=True)
class Slices:
    """All parts; `measured` photos of `n` were looked at for those that the audit does not know."""

    slices: tuple[Slice, ...]
    measured: int
    n: int


def slices_of(rows: Sequence[Mapping[str, Any]], photos: PhotoFolder | None, audit: Mapping[str, Any] | None) -> Slices:
    """Slice predictions: by what the audit knows, and by what photos show where they are still there.

    A bright photo is one of the brightest quarter, and so on.
    """
    found = [] if audit is None else list(_by_audit(rows, audit))
    looked_at: list[tuple[Mapping[str, Any], tuple[float, ...]]] = []
    if photos is not None and len(rows) >= 4 * _MIN_PHOTOS:
        looked_at = _look(rows, photos)
    if len(looked_at) >= 4 * _MIN_PHOTOS:
        right = np.array([_is_right(row) for row, _ in looked_at])
        values = np.array([value for _, value in looked_at])  # (N, 3)
        found += _quarters(values, right)
    return Slices(tuple(found), len(looked_at), len(rows))


def _by_audit(rows: Sequence[Mapping[str, Any]], audit: Mapping[str, Any]) -> Iterator[Slice]:
    groups = [*audit["exact_duplicates"], *audit["near_duplicates"]]
    twins = {path for group in groups for path in group}
    suspects = {suspect["path"] for suspect in audit["suspects"]}
    for what, others, chosen in (
        ("shown by another photo too", "shown by no other", twins),
        ("label doubtful", "label not doubtful", suspects),
    ):
        inside = [_is_right(row) for row in rows if row["path"] in chosen]
        outside = [_is_right(row) for row in rows if row["path"] not in chosen]
        if inside and outside:
            yield Slice(what, len(inside), sum(inside))
            yield Slice(others, len(outside), sum(outside))


def _quarters(values: NDArray[np.float64], right: NDArray[np.bool_]) -> Iterator[Slice]:
    words = (("dark", "bright"), ("blurred", "sharp"), ("away from the border", "near the border"))
    quarter = len(right) // 4
    for column, (low, high) in zip(values.T, words, strict=True):
        order = np.argsort(column, kind="stable")
        for what, chosen in ((low, order[:quarter]), (high, order[-quarter:])):
            yield Slice(what, quarter, int(right[chosen].sum()))


def _look(rows: Sequence[Mapping[str, Any]], photos: PhotoFolder) -> list[tuple[Mapping[str, Any], tuple[float, ...]]]:
    deadline_s = time.monotonic() + MEASURE_S
    # By hash, so that whatever there is time for is no class and no folder more than another.
    chosen = sorted(rows, key=lambda row: row.get("sha256") or row["path"])[:MOST_MEASURED]

    def measure(row: Mapping[str, Any]) -> tuple[float, ...] | None:
        try:
            return _measures(photos.load(row["path"], _SMALL, sha256=row.get("sha256")))
        except DataError:
            return None

    found: list[tuple[Mapping[str, Any], tuple[float, ...]]] = []
    with ThreadPoolExecutor(max(2, os.cpu_count() or 1)) as pool:
        for start in range(0, len(chosen), _PER_ROUND):
            if time.monotonic() > deadline_s:
                break
            these = chosen[start : start + _PER_ROUND]
            found += [(row, values) for row, values in zip(these, pool.map(measure, these), strict=True) if values]
            if not found:
                break  # the photos are gone, or are others
    return found


def _measures(photo: NDArray[np.uint8]) -> tuple[float, float, float]:
    """Return brightness, sharpness and how much of the drawing lies near the border, of (H, W, 3) uint8."""
    luma = np.asarray(Image.fromarray(photo).convert("L"), np.float64)  # (H, W)
    across, down = np.abs(np.diff(luma, axis=1))[:-1], np.abs(np.diff(luma, axis=0))[:, :-1]
    edges = across + down  # (H - 1, W - 1)
    height, width = (max(1, round(_BORDER_SHARE * side)) for side in edges.shape)
    inner = edges[height:-height, width:-width]
    total = float(edges.sum())
    laplacian = luma[1:-1, :-2] + luma[1:-1, 2:] + luma[:-2, 1:-1] + luma[2:, 1:-1] - 4 * luma[1:-1, 1:-1]
    near = 1 - float(inner.sum()) / total if total else 0.0
    return float(luma.mean()), float(laplacian.var()), near


def _is_right(row: Mapping[str, Any]) -> bool:
    return bool(row["true_label"] == row["label"])
