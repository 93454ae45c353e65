"""Which photos belong together, and how: pairs, and the groups they tie."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

Kind = Literal["bytes", "pixels", "symmetry", "near", "object"]
"""Equal bytes; equal pixels; equal up to one of the eight symmetries of the square; the same shot; or an object with a
part by which it is known again."""
EXACT: tuple[Kind, ...] = ("bytes", "pixels", "symmetry")
ONE_SHOT: tuple[Kind, ...] = (*EXACT, "near")


@dataclass(frozen=True)
class Relation:
    """Two photos that belong together, by their rows in the catalog, the smaller first.

    Attributes:
        shared_points: Keypoints they share; this and what follows only for `near` and `object`.
        agreement: Correlation of their fine structure where they overlap, -1 to 1.
        mirrored: Whether one is turned over.
    """

    first: int
    second: int
    kind: Kind
    shared_points: int | None = None
    agreement: float | None = None
    mirrored: bool = False


def connected(relations: Iterable[Relation]) -> list[list[int]]:
    """Join related rows to groups of two or more, sorted, by union-find."""
    parent: dict[int, int] = {}

    def root_of(row: int) -> int:
        parent.setdefault(row, row)
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for relation in relations:
        one, other = sorted((root_of(relation.first), root_of(relation.second)))
        parent[other] = one
    groups = defaultdict(list)
    for row in sorted(parent):
        groups[root_of(row)].append(row)
    return list(groups.values())


def anchors_of(groups: Iterable[Sequence[int]], sha256: pa.ChunkedArray) -> Mapping[str, str]:
    """Return for the content of each photo in a group the content that stands for the group: the smallest hash."""
    found: dict[str, str] = {}
    for group in groups:
        contents = sha256.take(pa.array(group)).to_pylist()
        found |= dict.fromkeys(contents, min(contents))
    return found
