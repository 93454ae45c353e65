"""Which photos are worth comparing: those whose keypoints fall into the same buckets, never all pairs.

Every descriptor is hashed to a few keys, so that similar ones often share one (locality-sensitive hashing by
random hyperplanes: Charikar, "Similarity estimation techniques from rounding algorithms", 2002). Photos that share
several keys are candidates. Whether two photos are compared depends on the two, not on who else is near, as it does
in indexes that return the k nearest: adding photos does not push others out. Only the scaling of descriptors is the
set's; copies share so many more keys than they need that its small changes lose none. Time and memory grow with the
number of photos, since a crowded bucket yields at most `_LINKS` pairs for each of its photos.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from ray_trash.cluster.shares import READ_TASK_CPUS
from ray_trash.cluster.tasks import cluster_cpus, run_tasks
from ray_trash.cluster.waiting import fetch
from ray_trash.dataset.groups.sketches import Keypoints, Sketches, keypoints_of
from ray_trash.image.sketch import DESCRIPTOR_LENGTH, mirrored
from ray_trash.terminal.bar import Bar
from ray_trash.terminal.say import Terminal

MIN_VOTES = 3
"""Keys two photos must share. Of nine kinds of made-up copies of 60 photos of TrashNet all but three pairs share as
many, in the median 36 and more; of 3,000 pairs of unrelated photos none does."""

_TABLES = 8
_BITS = 32
"""So many that unrelated points seldom meet: of 24 million, those of 250,000 photos, some 70,000 pairs in a table. With
24 bits it would be 17 million, and growing with the square."""
_DIMENSIONS = 48
"""Directions of the largest variance of descriptors that hash; what is left is mostly noise."""
_SAMPLE_POINTS = 100_000
_VARIANCE_FLOOR = 1e-3
_SMALL_BUCKET = 32
"""In buckets up to this size all photos are compared with one another."""
_LINKS = 4
"""In larger ones, of points that say little, each photo only with so many of its neighbours in the bucket."""
_CHUNK_POINTS = 1 << 13
_HALF = DESCRIPTOR_LENGTH // 2
_OWNER_BITS = np.uint64(32)
"""Of an entry, below the key: the number of a photo."""
_PART_POINTS = 1 << 22
"""Points whose keys one task sorts, of each table: some hundred megabytes."""


Scaling = tuple[NDArray[np.float32], NDArray[np.float32]]
"""The mean of descriptors (128,), and the hyperplanes (128, tables * bits), by which they are hashed."""
Votes = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Pairs of photos, sorted, each once: `first * n_photos + second`; and how many keys each shares."""


def find_candidates(
    sketches: Sketches, wanted: NDArray[np.bool_], sample: NDArray[np.int64], terminal: Terminal
) -> NDArray[np.int64]:
    """Find the pairs of photos that may show the same: (n, 2) positions, the smaller first, sorted, each once.

    Args:
        sketches: All; needs a connection to Ray.
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
    scaling = _task(_scaling_of_sample, 1)(np.argsort(order), *tables)
    n_parts = 1 << max(0, int(np.ceil(np.log2(total_points / _PART_POINTS))))
    at_once = cluster_cpus()

    hash_group = _task(_hash_group, n_parts)
    groups = list(sketches.groups())
    starts = [
        partial(hash_group, scaling, wanted[group.start : group.end], group.start, n_parts, *group.blocks)
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
    count, add = _task(_count_part, n_parts), _task(_enough_votes, 1)
    counted: list[list[Any]] = []
    found: list[Any] = []
    with Bar(terminal, total=2 * n_parts, noun="parts", doing="matching keypoints,") as bar:
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


def _task(function: Callable[..., Any], n_returned: int) -> Callable[..., Any]:
    remote: Any = ray.remote(num_cpus=READ_TASK_CPUS, num_returns=n_returned)(function)
    start: Callable[..., Any] = remote.remote
    return start


def _as_list(returned: Any) -> list[Any]:
    return returned if isinstance(returned, list) else [returned]


def _scaling_of_sample(order: NDArray[np.int64], *tables: pa.Table) -> Scaling:
    keypoints = keypoints_of(pa.concat_tables(tables))
    return scaling_of(np.concatenate([keypoints.of(int(photo))[1] for photo in order])[:_SAMPLE_POINTS])


def _hash_group(
    scaling: Scaling, wanted: NDArray[np.bool_], start: int, n_parts: int, *blocks: pa.Table
) -> list[list[NDArray[np.uint64]]] | list[NDArray[np.uint64]]:
    """Return for each part of the keys its entries of every table."""
    keypoints = keypoints_of(pa.concat_tables([block.select(["points", "descriptors"]) for block in blocks]))
    entries = hash_points(keypoints, scaling, start)
    entries = entries[:, wanted[keypoints.owners]]
    parts: list[list[NDArray[np.uint64]]] = [[] for _ in range(n_parts)]
    for table in entries:
        for part, inside in zip(parts, _cut(table, _mixed(table >> _OWNER_BITS), n_parts), strict=True):
            part.append(inside)
    return parts if n_parts > 1 else parts[0]


def _count_part(n_photos: int, n_parts: int, *groups: Sequence[NDArray[np.uint64]]) -> list[Votes] | Votes:
    """Count the keys that pairs share in one part of the keys, and cut them by pairs."""
    codes, votes = count_votes((np.concatenate(tables) for tables in zip(*groups, strict=True)), n_photos)
    mixed = _mixed(codes.astype(np.uint64))
    parts = list(zip(_cut(codes, mixed, n_parts), _cut(votes, mixed, n_parts), strict=True))
    return parts if n_parts > 1 else parts[0]


def _enough_votes(*parts: Votes) -> NDArray[np.int64]:
    codes, votes = add_votes(parts)
    return codes[votes >= MIN_VOTES]


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    # Crowded keys are neighbours of one another; mixed, they are dealt out to all parts. Source of the number: Knuth,
    # The Art of Computer Programming 3, section 6.4, for 64 bits.
    return (values * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)


def _cut(values: NDArray[Any], mixed: NDArray[np.uint64], n_parts: int) -> list[NDArray[Any]]:
    numbers = (mixed % np.uint64(n_parts)).astype(np.uint16)
    order = np.argsort(numbers, kind="stable")
    ends = np.cumsum(np.bincount(numbers, minlength=n_parts))
    return np.split(values[order], ends[:-1])


def hash_points(keypoints: Keypoints, scaling: Scaling, start: int) -> NDArray[np.uint64]:
    """Return an entry for each point in each table, (tables, points): its key above the number of its photo.

    Photos count from `start`.
    """
    keys = _keys(keypoints, *scaling).astype(np.uint64) << _OWNER_BITS
    return np.asarray(keys.T | (keypoints.owners + start).astype(np.uint64))


def count_votes(tables: Iterable[NDArray[np.uint64]], n_photos: int) -> Votes:
    """Count how many keys each pair of photos shares, over tables of entries as `hash_points` gives them."""
    codes, votes = np.zeros(0, np.int64), np.zeros(0, np.int64)
    for entries in tables:
        codes, votes = add_votes([(codes, votes), np.unique(_pairs_of_table(entries, n_photos), return_counts=True)])
    return codes, votes


def add_votes(counted: Sequence[Votes]) -> Votes:
    """Add what was counted of several tables."""
    codes, inverse = np.unique(np.concatenate([codes for codes, _ in counted]), return_inverse=True)
    weights = np.concatenate([votes for _, votes in counted])
    return codes, np.bincount(inverse, weights=weights, minlength=len(codes)).astype(np.int64)


def _mirror_free(descriptors: NDArray[np.uint8]) -> NDArray[np.float32]:
    # The sum with the mirrored descriptor is the same for a photo and its mirror image. Square roots, so that
    # Euclidean distance compares them as distributions: Arandjelovic and Zisserman, 2012.
    summed = np.sqrt(descriptors, dtype=np.float32) + np.sqrt(mirrored(descriptors), dtype=np.float32)
    lengths = np.linalg.norm(summed, axis=1, keepdims=True)
    return np.asarray(summed / np.maximum(lengths, 1e-6), np.float32)


def scaling_of(descriptors: NDArray[np.uint8]) -> Scaling:
    """Find by what descriptors (points, 128) are scaled and hashed, from a sample of them."""
    # Without it most hyperplanes have nearly all descriptors on one side, and buckets are crowded.
    values = _mirror_free(descriptors)
    mean = values.mean(axis=0)
    centred = values - mean
    variances, directions = np.linalg.eigh(centred.T @ centred / len(centred))
    scaled = directions[:, -_DIMENSIONS:] / np.sqrt(variances[-_DIMENSIONS:] + _VARIANCE_FLOOR)
    planes = np.random.default_rng(0).standard_normal((_DIMENSIONS, _TABLES * _BITS))
    return mean.astype(np.float32), (scaled @ planes).astype(np.float32)


def _keys(keypoints: Keypoints, mean: NDArray[np.float32], planes: NDArray[np.float32]) -> NDArray[np.uint32]:
    # What `_mirror_free` gives is the same in a place and in its mirror image, so half of the places are enough: those
    # of the first two of four rows. A tenth of an audit's time is spent here.
    places = np.arange(DESCRIPTOR_LENGTH, dtype=np.uint8)
    opposite = mirrored(places[None])[0][:_HALF]
    folded = planes[:_HALF] + planes[opposite]
    threshold = mean @ planes
    keys = np.empty((len(keypoints.descriptors), _TABLES), np.uint32)
    for start in range(0, len(keys), _CHUNK_POINTS):
        rows = slice(start, start + _CHUNK_POINTS)
        roots = np.sqrt(keypoints.descriptors[rows], dtype=np.float32)
        summed = roots[:, :_HALF] + roots.take(opposite, axis=1)
        lengths = np.sqrt(2 * np.einsum("ij,ij->i", summed, summed))
        summed /= np.maximum(lengths, 1e-6)[:, None]
        keys[rows] = np.packbits(summed @ folded > threshold, axis=1).view(np.uint32)
    return keys


def _pairs_of_table(entries: NDArray[np.uint64], n_photos: int) -> NDArray[np.int64]:
    # One entry for each photo in a bucket, in the order of buckets and, inside, of photos.
    entries = np.sort(entries)
    if not len(entries):
        return np.zeros(0, np.int64)
    entries = entries[np.concatenate([[True], entries[1:] != entries[:-1]])]
    buckets, photos = entries >> _OWNER_BITS, (entries & np.uint64(0xFFFFFFFF)).astype(np.int64)
    starts = np.flatnonzero(np.concatenate([[True], buckets[1:] != buckets[:-1]]))
    sizes = np.diff(np.concatenate([starts, [len(buckets)]]))
    size_of_entry = np.repeat(sizes, sizes)
    found = []
    for step in range(1, _SMALL_BUCKET):
        # Whole buckets leave, so those that stay keep their neighbours.
        stay = (size_of_entry > step) & ((size_of_entry <= _SMALL_BUCKET) | (step <= _LINKS))
        buckets, photos, size_of_entry = buckets[stay], photos[stay], size_of_entry[stay]
        if not len(photos):
            break
        first = np.flatnonzero(buckets[step:] == buckets[:-step])
        found.append(photos[first] * n_photos + photos[first + step])
    return np.concatenate(found) if found else np.zeros(0, np.int64)
