"""Photos whose pixels are equal though their files are not: as they are, or up to a turn or a mirror."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from ray_trash.cluster.shares import READ_TASK_CPUS
from ray_trash.cluster.waiting import fetch_all
from ray_trash.dataset.groups.relations import Kind, Relation
from ray_trash.dataset.read import PhotoFolder
from ray_trash.errors import ImageError
from ray_trash.image.decode import decode_photo
from ray_trash.image.symmetry import symmetric_views

_MAX_KINDS = 16
"""Different pictures with equal counts of every colour that are told apart; there are hardly ever two."""
_GROUPS_PER_TASK = 32

Photos = Sequence[tuple[int, str]]
"""Row and path of each."""


def find_equal_pixels(root: str, groups: Sequence[Photos], *, min_short_side_px: int) -> list[Relation]:
    """Compare by pixels the photos of each group, of equal `pixels_key` at this short side; needs a connection to Ray.

    Returns:
        The pairs that tie equal photos together, not all pairs of them.
    """
    compare: Any = ray.remote(num_cpus=READ_TASK_CPUS)(_compare_groups)
    chunks = [groups[start : start + _GROUPS_PER_TASK] for start in range(0, len(groups), _GROUPS_PER_TASK)]
    tasks = [compare.remote(PhotoFolder.at(root), chunk, min_short_side_px) for chunk in chunks]
    return [pair for pairs in fetch_all(tasks, what="the comparison of equal photos") for pair in pairs]


def _compare_groups(folder: PhotoFolder, groups: Sequence[Photos], min_short_side_px: int) -> list[Relation]:
    return [pair for group in groups for pair in _compare(folder, group, min_short_side_px)]


def _compare(folder: PhotoFolder, photos: Photos, min_short_side_px: int) -> Iterator[Relation]:
    seen: list[tuple[int, NDArray[np.uint8]]] = []
    for row, path in photos:
        try:
            pixels = decode_photo(folder.read(path), min_short_side_px=min_short_side_px)
        except ImageError:
            continue  # it was good a moment ago: somebody is writing to it, and its bytes are another photo now
        for earlier, known in seen:
            kind = _equality(known, pixels)
            if kind is not None:
                yield Relation(earlier, row, kind)
                break
        else:
            if len(seen) < _MAX_KINDS:
                seen.append((row, pixels))


def _equality(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> Kind | None:
    if np.array_equal(first, second):
        return "pixels"
    return "symmetry" if any(np.array_equal(first, view) for view in symmetric_views(second)) else None
