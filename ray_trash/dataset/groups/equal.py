"""Photos whose pixels are equal though their files are not: as they are, or up to a turn or a mirror."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ray_trash.cluster.tasks import cluster_cpus, run_tasks, task
from ray_trash.cluster.waiting import fetch
from ray_trash.dataset.groups.relations import Kind, Relation
from ray_trash.dataset.read import PhotoFolder
from ray_trash.errors import ImageError
from ray_trash.image.decode import decode_photo
from ray_trash.image.symmetry import symmetric_views
from ray_trash.terminal.bar import Bar
from ray_trash.terminal.say import Terminal

_MAX_KINDS = 16
"""Different pictures with equal counts of every colour that are told apart; there are hardly ever two."""
_GROUPS_PER_TASK = 32

Photos = Sequence[tuple[int, str]]
"""Row and path of each."""


def find_equal_pixels(
    root: str, groups: Sequence[Photos], *, min_short_side_px: int, terminal: Terminal
) -> list[Relation]:
    """Compare by pixels the photos of each group, of equal `pixels_key` at this short side.

    Returns:
        The pairs that tie equal photos together, not all pairs of them.
    """
    compare = task(_compare_groups)
    chunks = [groups[start : start + _GROUPS_PER_TASK] for start in range(0, len(groups), _GROUPS_PER_TASK)]
    starts = [partial(compare, PhotoFolder.at(root), chunk, min_short_side_px) for chunk in chunks]
    what, found = "the comparison of equal photos", list[Relation]()
    with Bar(terminal, total=len(groups), noun="groups", doing="comparing pixels,") as bar:
        for number, reference in run_tasks(starts, at_once=cluster_cpus(), what=what):
            found += fetch(reference, what=what)
            bar.advance(len(chunks[number]))
    return found


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
