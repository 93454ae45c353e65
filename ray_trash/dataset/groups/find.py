"""The search for photos that belong together: by their bytes, their pixels, and what they show."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ray_trash.dataset.groups.equal import find_equal_pixels
from ray_trash.dataset.groups.near import find_near_pairs
from ray_trash.dataset.groups.relations import Relation
from ray_trash.dataset.groups.sketches import Sketches
from ray_trash.terminal.say import Terminal

SAMPLE_PHOTOS = 2048


def find_relations(
    catalog: pa.Table, sketches: Sketches, root: str, *, min_short_side_px: int, terminal: Terminal
) -> list[Relation]:
    """Find which accepted photos belong together, and say how far this has come.

    Returns:
        Pairs that tie each group together, sorted by rows; not all pairs of a group.
    """
    if not len(sketches):
        return []
    rows = sketches.summary["row"].to_numpy()
    sha256 = catalog["sha256"].take(pa.array(rows)).combine_chunks()
    # Contents are numbered in the order in which they come, so the first photo of each stands for it.
    content = sha256.dictionary_encode().indices.to_numpy()
    _, firsts = np.unique(content, return_index=True)
    original = np.zeros(len(rows), np.bool_)
    original[firsts] = True
    copies = zip(rows[firsts[content[~original]]].tolist(), rows[~original].tolist(), strict=True)
    relations = [Relation(first, row, "bytes") for first, row in copies]

    alike = [[(row, catalog["path"][row].as_py()) for row in group] for group in _equal_keys(sketches, original)]
    relations += find_equal_pixels(root, alike, min_short_side_px=min_short_side_px, terminal=terminal)
    known = {(relation.first, relation.second) for relation in relations}

    # Chosen by content, so that what is found does not change when photos are added.
    unique = pa.table({"sha256": sha256.filter(pa.array(original)), "position": np.flatnonzero(original)})
    smallest = pc.select_k_unstable(unique, k=SAMPLE_PHOTOS, sort_keys=[("sha256", "ascending")])
    sample = unique["position"].take(smallest).to_numpy()
    near = find_near_pairs(sketches, original, sample, terminal)
    relations += [pair for pair in near if (pair.first, pair.second) not in known]
    return sorted(relations, key=lambda relation: (relation.first, relation.second))


def _equal_keys(sketches: Sketches, original: NDArray[np.bool_]) -> Iterator[list[int]]:
    """Yield the rows of photos of different contents with equal `pixels_key`, in their order."""
    unique = sketches.summary.filter(pa.array(original))
    keys, rows = unique["pixels_key"].to_numpy(), unique["row"].to_numpy()
    order = np.argsort(keys, kind="stable")
    bounds = np.flatnonzero(np.diff(keys[order], prepend=keys[order[:1]] - 1, append=keys[order[-1:]] + 1))
    for start, end in pairwise(bounds.tolist()):
        if end - start > 1:
            yield rows[order[start:end]].tolist()
