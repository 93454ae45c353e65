"""Which photos are worth comparing: those whose keypoints fall into the same buckets, never all pairs.

Tasks hash what they are near to, and cut the keys into parts; others count, of one part each, which photos share keys;
others again add up what was counted of a pair. This process sees the pairs that share enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ray_trash.cluster.tasks import cluster_cpus, run_tasks, task
from ray_trash.cluster.waiting import fetch
from ray_trash.dataset.groups.keys import (
    OWNER_BITS,
    TABLES,
    VOTE_BITS,
    Scaling,
    Votes,
    add_votes,
    count_votes,
    hash_points,
    pairs_with,
    scaling_of,
)
from ray_trash.dataset.groups.sketches import Sketches, keypoints_of
from ray_trash.terminal.bar import Bar
from ray_trash.terminal.say import Terminal

MIN_VOTES = 3
"""Keys two photos must share. Of nine kinds of made-up copies of 60 photos of TrashNet all but three pairs share as
many, in the median 36 and more; of 3,000 pairs of unrelated photos none does."""

_SAMPLE_POINTS = 100_000
_PART_POINTS = 1 << 22
"""Points whose keys one task sorts, of each table: some hundred megabytes."""


def find_candidates(
    sketches: Sketches, wanted: NDArray[np.bool_], sample: NDArray[np.int64], terminal: Terminal
) -> NDArray[np.int64]:
    """Find the pairs of photos that may show the same: (n, 2) positions, the smaller first, sorted, each once.

    Args:
        sketches: All.
        wanted: Which of them are compared, (photos,).
        sample: Positions of photos chosen by content, so that they do not change when photos are added. From them the
            scaling of descriptors is taken.
        terminal: Where it is said how far this has come.
    """
    n_points = sketches.summary["n_points"].to_numpy()
    total_points = int(n_points[wanted].sum())
    sample = sample[: int(np.searchsorted(np.cumsum(n_points[sample]), _SAMPLE_POINTS)) + 1]
    if int(wanted.sum()) < 2 or not n_points[sample].sum():
        return np.zeros((0, 2), np.int64)
    what, n_photos = "the comparison of photos", len(sketches)
    order = np.argsort(sample)
    tables = sketches.select(sample[order], ["points", "descriptors"], what=what)
    scaling = task(_scaling_of_sample)(np.argsort(order), *tables)
    n_parts = 1 << max(0, int(np.ceil(np.log2(total_points / _PART_POINTS))))
    at_once = cluster_cpus()

    hash_group = task(_hash_group, n_returned=n_parts)
    # The last first: of more than fits into memory, they are what is still there.
    groups = list(sketches.groups())[::-1]
    starts = [
        partial(
            hash_group,
            scaling,
            wanted[group.start : group.end],
            group.start,
            n_parts,
            *(block.keypoints for block in group.blocks),
        )
        for group in groups
    ]
    hashed: list[list[Any]] = [[] for _ in groups]
    with Bar(terminal, total=n_photos, doing="hashing keypoints of") as bar:
        for number, parts in run_tasks(starts, at_once=at_once, what=what):
            hashed[number] = _as_list(parts)
            bar.advance(groups[number].end - groups[number].start)

    # Each part goes when it is counted: all keys together are as large as a third of the sketches.
    parts = [list(references) for references in zip(*hashed, strict=True)]
    del hashed, starts
    count, add = task(_count_part, n_returned=n_parts), task(_enough_votes)
    counted: list[list[Any]] = []
    found: list[Any] = []
    with Bar(terminal, total=2 * n_parts, noun="parts", doing="matching keypoints,", alike=False) as bar:
        counts = (partial(count, n_photos, n_parts, *parts.pop()) for _ in range(n_parts))
        for _, votes in run_tasks(counts, at_once=at_once, what=what):
            counted.append(_as_list(votes))
            bar.advance(1)
        sums = [partial(add, *votes) for votes in zip(*counted, strict=True)]
        for _, reference in run_tasks(sums, at_once=at_once, what=what):
            found.append(fetch(reference, what=what))
            bar.advance(1)
    codes = np.sort(np.concatenate(found))
    return np.stack([codes // n_photos, codes % n_photos], axis=1)


def _as_list(returned: Any) -> list[Any]:
    return returned if isinstance(returned, list) else [returned]


def _scaling_of_sample(order: NDArray[np.int64], *tables: pa.Table) -> Scaling:
    keypoints = keypoints_of(pa.concat_tables(tables))
    return scaling_of(np.concatenate([keypoints.of(int(photo))[1] for photo in order])[:_SAMPLE_POINTS])


def _hash_group(
    scaling: Scaling, wanted: NDArray[np.bool_], start: int, n_parts: int, *blocks: pa.Table
) -> list[list[NDArray[np.uint64]]] | list[NDArray[np.uint64]]:
    """Return for each part of the keys its entries of every table."""
    # Block by block, so that but for the keys themselves there is little of it at a time.
    parts: list[list[list[NDArray[np.uint64]]]] = [[[] for _ in range(TABLES)] for _ in range(n_parts)]
    first = 0
    for block in blocks:
        keypoints = keypoints_of(block)
        kept = wanted[first + keypoints.owners]
        for number, table in enumerate(hash_points(keypoints, scaling, start + first)):
            entries = table[kept]
            for part, inside in zip(parts, _cut(entries, _mixed(entries >> OWNER_BITS), n_parts), strict=True):
                part[number].append(inside)
        first += len(keypoints)
    whole = [[np.concatenate(pieces) for pieces in part] for part in parts]
    return whole if n_parts > 1 else whole[0]


def _count_part(n_photos: int, n_parts: int, *groups: Sequence[NDArray[np.uint64]]) -> list[Votes] | Votes:
    """Count the keys that pairs share in one part of the keys, and cut them by pairs."""
    votes = count_votes((np.concatenate(tables) for tables in zip(*groups, strict=True)), n_photos)
    return _cut(votes, _mixed(votes >> VOTE_BITS), n_parts) if n_parts > 1 else votes


def _enough_votes(*parts: Votes) -> NDArray[np.int64]:
    return pairs_with(add_votes(parts), MIN_VOTES)


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    # Crowded keys are neighbours of one another; mixed, they are dealt out to all parts. Source of the number: Knuth,
    # The Art of Computer Programming 3, section 6.4, for 64 bits.
    return (values * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)


def _cut(values: NDArray[Any], mixed: NDArray[np.uint64], n_parts: int) -> list[NDArray[Any]]:
    numbers = (mixed % np.uint64(n_parts)).astype(np.uint16)
    order = np.argsort(numbers, kind="stable")
    ends = np.cumsum(np.bincount(numbers, minlength=n_parts))
    return np.split(values[order], ends[:-1])
