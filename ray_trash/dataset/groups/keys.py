"""Keys of keypoints, and which photos share some: how a few photos worth comparing are found among all pairs.

Every descriptor is hashed to a few keys, so that similar ones often share one (locality-sensitive hashing by
random hyperplanes: Charikar, "Similarity estimation techniques from rounding algorithms", 2002). Photos that share
several keys are candidates. Whether two photos are compared depends on the two, not on who else is near, as it does
in indexes that return the k nearest: adding photos does not push others out. Only the scaling of descriptors is the
set's; copies share so many more keys than they need that its small changes lose none. Time and memory grow with the
number of photos, since a crowded bucket yields at most `_LINKS` pairs for each of its photos.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_trash.dataset.groups.sketches import Keypoints
from ray_trash.image.sketch import DESCRIPTOR_LENGTH, mirrored

TABLES = 8
_BITS = 32
"""So many that unrelated points seldom meet: of 24 million, those of 250,000 photos, some 70,000 pairs in a table. With
24 bits it would be 17 million, and growing with the square."""
_DIMENSIONS = 48
"""Directions of the largest variance of descriptors that hash; what is left is mostly noise."""
_VARIANCE_FLOOR = 1e-3
_SMALL_BUCKET = 32
"""In buckets up to this size all photos are compared with one another."""
_LINKS = 4
"""In larger ones, of points that say little, each photo only with so many of its neighbours in the bucket."""
_CHUNK_POINTS = 1 << 13
_HALF = DESCRIPTOR_LENGTH // 2
OWNER_BITS = np.uint64(32)
"""Of an entry, below the key: the number of a photo."""

Scaling = tuple[NDArray[np.float32], NDArray[np.float32]]
"""The mean of descriptors (128,), and the hyperplanes (128, tables * bits), by which they are hashed."""
VOTE_BITS = np.uint64(10)
"""Below a pair: how many keys the two share, no more than a photo has: `KEYPOINTS_MAX` in each table."""
_VOTES = (np.uint64(1) << VOTE_BITS) - np.uint64(1)
Votes = NDArray[np.uint64]
"""Pairs of photos, sorted, each once: `first * n_photos + second` above the number of keys that the two share. Of one
number each they are sorted and sent in half the time; there is room for 130 million photos."""


def hash_points(keypoints: Keypoints, scaling: Scaling, start: int) -> NDArray[np.uint64]:
    """Return an entry for each point in each table, (tables, points): its key above the number of its photo.

    Photos count from `start`.
    """
    keys = _keys(keypoints, *scaling).astype(np.uint64) << OWNER_BITS
    return np.asarray(keys.T | (keypoints.owners + start).astype(np.uint64))


def count_votes(tables: Iterable[NDArray[np.uint64]], n_photos: int) -> Votes:
    """Count how many keys each pair of photos shares, over tables of entries as `hash_points` gives them."""
    pairs = np.sort(np.concatenate([_pairs_of_table(entries, n_photos) for entries in tables]))
    starts = _starts_of_runs(pairs)
    votes = np.diff(starts, append=len(pairs))
    return pairs[starts].astype(np.uint64) << VOTE_BITS | votes.astype(np.uint64)


def add_votes(counted: Sequence[Votes]) -> Votes:
    """Add what was counted of several parts of the keys."""
    # Each is sorted, and this kind merges what is, five times as fast as the other sorts.
    votes = np.sort(np.concatenate(counted), kind="stable")
    pairs = votes >> VOTE_BITS
    starts = _starts_of_runs(pairs)
    summed = np.add.reduceat(votes & _VOTES, starts) if len(starts) else votes
    return np.asarray(pairs[starts] << VOTE_BITS | summed)


def pairs_with(votes: Votes, least: int) -> NDArray[np.int64]:
    """Return the pairs that share at least so many keys."""
    return (votes[(votes & _VOTES) >= least] >> VOTE_BITS).astype(np.int64)


def _starts_of_runs(values: NDArray[Any]) -> NDArray[np.int64]:
    return np.flatnonzero(np.concatenate([np.ones(min(1, len(values)), bool), values[1:] != values[:-1]]))


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
    planes = np.random.default_rng(0).standard_normal((_DIMENSIONS, TABLES * _BITS))
    return mean.astype(np.float32), (scaled @ planes).astype(np.float32)


def _keys(keypoints: Keypoints, mean: NDArray[np.float32], planes: NDArray[np.float32]) -> NDArray[np.uint32]:
    # What `_mirror_free` gives is the same in a place and in its mirror image, so half of the places are enough: those
    # of the first two of four rows. A tenth of an audit's time is spent here.
    places = np.arange(DESCRIPTOR_LENGTH, dtype=np.uint8)
    opposite = mirrored(places[None])[0][:_HALF]
    folded = planes[:_HALF] + planes[opposite]
    threshold = mean @ planes
    keys = np.empty((len(keypoints.descriptors), TABLES), np.uint32)
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
    entries = entries[_starts_of_runs(entries)]
    buckets, photos = entries >> OWNER_BITS, (entries & np.uint64(0xFFFFFFFF)).astype(np.int64)
    starts = _starts_of_runs(buckets)
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
