"""Which photos are worth comparing: those whose keypoints fall into the same buckets, never all pairs.

Every descriptor is hashed to a few keys, so that similar ones often share one (locality-sensitive hashing by
random hyperplanes: Charikar, "Similarity estimation techniques from rounding algorithms", 2002). Photos that share
several keys are candidates. Whether two photos are compared depends on the two, not on who else is near, as it does
in indexes that return the k nearest: adding photos does not push others out. Only the scaling of descriptors is the
set's; copies share so many more keys than they need that its small changes lose none. Time and memory grow with the
number of photos, since a crowded bucket yields at most `_LINKS` pairs for each of its photos.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ray_trash.dataset.groups.sketches import Keypoints
from ray_trash.image.sketch import mirrored

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
_CHUNK_POINTS = 1 << 14


def candidate_pairs(keypoints: Keypoints, sample: NDArray[np.int64]) -> NDArray[np.int64]:
    """Find the pairs of photos that may show the same: (n, 2) photo numbers, the smaller first, sorted, each once.

    From the photos of `sample`, chosen by content so that it does not change when photos are added, the scaling of
    descriptors is taken.
    """
    n_photos = len(keypoints)
    if n_photos < 2 or not len(keypoints.descriptors):
        return np.zeros((0, 2), np.int64)
    keys = _keys(keypoints, *_scaling(keypoints, sample))
    owners = keypoints.owners
    codes, votes = np.zeros(0, np.int64), np.zeros(0, np.int64)
    for table in range(_TABLES):
        found, times = np.unique(_pairs_of_table(keys[:, table], owners, n_photos), return_counts=True)
        codes, inverse = np.unique(np.concatenate([codes, found]), return_inverse=True)
        votes = np.bincount(inverse, weights=np.concatenate([votes, times]), minlength=len(codes)).astype(np.int64)
    codes = codes[votes >= MIN_VOTES]
    return np.stack([codes // n_photos, codes % n_photos], axis=1)


def _mirror_free(descriptors: NDArray[np.uint8]) -> NDArray[np.float32]:
    # The sum with the mirrored descriptor is the same for a photo and its mirror image. Square roots, so that
    # Euclidean distance compares them as distributions: Arandjelovic and Zisserman, 2012.
    summed = np.sqrt(descriptors, dtype=np.float32) + np.sqrt(mirrored(descriptors), dtype=np.float32)
    lengths = np.linalg.norm(summed, axis=1, keepdims=True)
    return np.asarray(summed / np.maximum(lengths, 1e-6), np.float32)


def _scaling(keypoints: Keypoints, sample: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    # Without it most hyperplanes have nearly all descriptors on one side, and buckets are crowded.
    chosen = np.concatenate([keypoints.of(int(photo))[1] for photo in sample])[:_SAMPLE_POINTS]
    values = _mirror_free(chosen)
    mean = values.mean(axis=0)
    centred = values - mean
    variances, directions = np.linalg.eigh(centred.T @ centred / len(centred))
    scaled = directions[:, -_DIMENSIONS:] / np.sqrt(variances[-_DIMENSIONS:] + _VARIANCE_FLOOR)
    planes = np.random.default_rng(0).standard_normal((_DIMENSIONS, _TABLES * _BITS))
    return mean.astype(np.float32), (scaled @ planes).astype(np.float32)


def _keys(keypoints: Keypoints, mean: NDArray[np.float32], planes: NDArray[np.float32]) -> NDArray[np.uint32]:
    keys = np.empty((len(keypoints.descriptors), _TABLES), np.uint32)
    for start in range(0, len(keys), _CHUNK_POINTS):
        rows = slice(start, start + _CHUNK_POINTS)
        bits = (_mirror_free(keypoints.descriptors[rows]) - mean) @ planes > 0
        keys[rows] = np.packbits(bits, axis=1).view(np.uint32)
    return keys


def _pairs_of_table(keys: NDArray[np.uint32], owners: NDArray[np.int32], n_photos: int) -> NDArray[np.int64]:
    # One entry for each photo in a bucket, in the order of buckets and, inside, of photos.
    entries = np.sort(keys.astype(np.uint64) << np.uint64(32) | owners.astype(np.uint64))
    entries = entries[np.concatenate([[True], entries[1:] != entries[:-1]])]
    buckets, photos = entries >> np.uint64(32), (entries & np.uint64(0xFFFFFFFF)).astype(np.int64)
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
