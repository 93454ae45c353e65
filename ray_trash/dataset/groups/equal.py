"""Photos whose pixels are equal though their files are not: as they are, or up to a turn or a mirror.

Paths of photos with equal `pixels_key` go in; pairs come out, each checked pixel by pixel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import ray
from numpy.typing import NDArray

from ray_trash.cluster.waiting import fetch_all
from ray_trash.dataset.catalog import READ_CPUS, read_photo_bytes
from ray_trash.dataset.walk import photo_location
from ray_trash.errors import ImageError
from ray_trash.image.decode import decode_photo
from ray_trash.storage import Storage

Equality = Literal["pixels", "symmetry"]
"""Equal as they are; or equal up to one of the eight symmetries of the square."""

_MAX_KINDS = 16
"""Different pictures with equal counts of every colour that are told apart; there are hardly ever two."""
_GROUPS_PER_TASK = 32


class EqualPair(NamedTuple):
    """Two photos with equal pixels.

    Attributes:
        first: Position of one in the group.
        second: That of the other.
        kind: How equal they are.
    """

    first: int
    second: int
    kind: Equality


def find_equal_pixels(root: str, groups: Sequence[Sequence[str]], *, min_short_side_px: int) -> list[list[EqualPair]]:
    """Compare the photos of each group by their pixels; needs a connection to Ray.

    Args:
        root: The data root.
        groups: Paths of photos that have equal `pixels_key`.
        min_short_side_px: As the keys were made with.

    Returns:
        For each group the pairs that tie equal photos together, not all pairs of them.
    """
    compare: Any = ray.remote(num_cpus=READ_CPUS)(_compare_groups)
    chunks = [groups[start : start + _GROUPS_PER_TASK] for start in range(0, len(groups), _GROUPS_PER_TASK)]
    storage = Storage.at(root)
    compared = fetch_all(
        [compare.remote(storage, chunk, min_short_side_px) for chunk in chunks], what="the comparison of equal photos"
    )
    return [pairs for chunk in compared for pairs in chunk]


def _compare_groups(storage: Storage, groups: Sequence[Sequence[str]], min_short_side_px: int) -> list[list[EqualPair]]:
    return [list(_compare(storage, group, min_short_side_px)) for group in groups]


def _compare(storage: Storage, paths: Sequence[str], min_short_side_px: int) -> Iterator[EqualPair]:
    seen: list[tuple[int, NDArray[np.uint8]]] = []
    for position, path in enumerate(paths):
        try:
            encoded = read_photo_bytes(storage.filesystem, photo_location(storage.path, path))
            pixels = decode_photo(encoded, min_short_side_px=min_short_side_px)
        except ImageError:
            continue  # it was good a moment ago: somebody is writing to it, and its bytes are another photo now
        for earlier, known in seen:
            kind = _equality(known, pixels)
            if kind is not None:
                yield EqualPair(earlier, position, kind)
                break
        else:
            if len(seen) < _MAX_KINDS:
                seen.append((position, pixels))


def _equality(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> Equality | None:
    if np.array_equal(first, second):
        return "pixels"
    for flipped in (second, second[:, ::-1]):
        for quarter_turns in range(4):
            if np.array_equal(first, np.rot90(flipped, quarter_turns)):
                return "symmetry"
    return None
