"""The search for photos that belong together: by their bytes, their pixels, and what they show."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pyarrow as pa

from ray_trash.dataset.groups.equal import find_equal_pixels
from ray_trash.dataset.groups.near import find_near_pairs
from ray_trash.dataset.groups.relations import Relation

SAMPLE_PHOTOS = 2048


def find_relations(catalog: pa.Table, sketches: pa.Table, root: str, *, min_short_side_px: int) -> list[Relation]:
    """Find which accepted photos belong together; needs a connection to Ray.

    Returns:
        Pairs that tie each group together, sorted by rows; not all pairs of a group.
    """
    sha256, paths = catalog["sha256"].to_pylist(), catalog["path"].to_pylist()
    copies = defaultdict(list)
    for row in sketches["row"].to_pylist():
        copies[sha256[row]].append(row)
    relations = [Relation(rows[0], row, "bytes") for rows in copies.values() for row in rows[1:]]
    originals = {rows[0] for rows in copies.values()}
    unique = sketches.filter(pa.array([row in originals for row in sketches["row"].to_pylist()], pa.bool_()))
    rows = unique["row"].to_pylist()

    by_key = defaultdict(list)
    for row, key in zip(rows, unique["pixels_key"].to_pylist(), strict=True):
        by_key[key].append((row, paths[row]))
    alike = [photos for photos in by_key.values() if len(photos) > 1]
    relations += find_equal_pixels(root, alike, min_short_side_px=min_short_side_px)
    known = {(relation.first, relation.second) for relation in relations}

    # Chosen by content, so that what is found does not change when photos are added.
    sample = sorted(range(len(rows)), key=lambda position: sha256[rows[position]])[:SAMPLE_PHOTOS]
    near = find_near_pairs(unique, np.array(sample, np.int64))
    relations += [pair for pair in near if (pair.first, pair.second) not in known]
    return sorted(relations, key=lambda relation: (relation.first, relation.second))
