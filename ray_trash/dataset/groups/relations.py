"""Which photos belong together, and how.

Equal bytes, equal pixels, equal up to a symmetry, the same shot, or a thing with a part by which it is known again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from ray_trash.dataset.groups.equal import find_equal_pixels
from ray_trash.dataset.groups.near import find_near_pairs

Kind = Literal["bytes", "pixels", "symmetry", "near", "object"]
ONE_SHOT: tuple[Kind, ...] = ("bytes", "pixels", "symmetry", "near")
EXACT: tuple[Kind, ...] = ("bytes", "pixels", "symmetry")
SAMPLE_PHOTOS = 2048


@dataclass(frozen=True)
class Relation:
    """Two photos that belong together.

    Attributes:
        first: Row of one in the catalog.
        second: That of the other, larger.
        kind: How.
        shared_points: Keypoints they share; only for `near` and `object`.
        agreement: Of their fine structure, -1 to 1; only for these.
        mirrored: Whether one is turned over; only for these.
    """

    first: int
    second: int
    kind: Kind
    shared_points: int | None = None
    agreement: float | None = None
    mirrored: bool = False


def find_relations(catalog: pa.Table, sketches: pa.Table, root: str, *, min_short_side_px: int) -> list[Relation]:
    """Find which accepted photos belong together; needs a connection to Ray.

    Args:
        catalog: As `build_catalog` gives it.
        sketches: Of its accepted photos.
        root: The data root.
        min_short_side_px: Short side the photos were decoded down to.

    Returns:
        Pairs that tie each group together, sorted by rows; not all pairs of a group.
    """
    sha256 = catalog["sha256"].to_pylist()
    paths = catalog["path"].to_pylist()
    copies = defaultdict(list)
    for row in sketches["row"].to_pylist():
        copies[sha256[row]].append(row)
    relations = [Relation(rows[0], row, "bytes") for rows in copies.values() for row in rows[1:]]
    originals = {rows[0] for rows in copies.values()}
    unique = sketches.filter(pa.array([row in originals for row in sketches["row"].to_pylist()]))
    rows = unique["row"].to_pylist()

    by_key = defaultdict(list)
    for row, key in zip(rows, unique["pixels_key"].to_pylist(), strict=True):
        by_key[key].append(row)
    alike = [group for group in by_key.values() if len(group) > 1]
    equal = find_equal_pixels(
        root, [[paths[row] for row in group] for group in alike], min_short_side_px=min_short_side_px
    )
    for group, pairs in zip(alike, equal, strict=True):
        relations += [Relation(group[pair.first], group[pair.second], pair.kind) for pair in pairs]
    known = {(relation.first, relation.second) for relation in relations}

    sample = sorted(range(len(rows)), key=lambda position: sha256[rows[position]])[:SAMPLE_PHOTOS]
    for near in find_near_pairs(unique, pa.array(sample, pa.int64()).to_numpy()):
        first, second = rows[near.first], rows[near.second]
        if (first, second) not in known:
            kind: Kind = "near" if near.same_shot else "object"
            relations.append(Relation(first, second, kind, near.shared_points, near.agreement, near.mirrored))
    return sorted(relations, key=lambda relation: (relation.first, relation.second))


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


def anchors_of(groups: Sequence[Sequence[int]], sha256: Sequence[str]) -> Mapping[str, str]:
    """Return for the content of each photo in a group the content that stands for the group: the smallest hash."""
    return {sha256[row]: min(sha256[other] for other in group) for group in groups for row in group}


def too_plain(sketches: pa.Table, min_points: int) -> int:
    """Count the photos with too few keypoints to be compared with others."""
    sizes = [len(value) // 8 for value in sketches["points"].to_pylist()]
    return sum(size < min_points for size in sizes)
