"""Which photos share how many keys."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np

from ray_trash.dataset.groups.keys import OWNER_BITS, TABLES, VOTE_BITS, add_votes, count_votes, pairs_with
from ray_trash.image.sketch import KEYPOINTS_MAX

N_PHOTOS, N_KEYS = 40, 30
RNG = np.random.default_rng(0)
ENTRIES = (RNG.integers(0, N_KEYS, (TABLES, 150)).astype(np.uint64) << OWNER_BITS) | RNG.integers(
    0, N_PHOTOS, (TABLES, 150)
).astype(np.uint64)
"""Buckets of a few photos in every table, some of which are there twice."""


def test_a_pair_has_a_vote_for_each_key_that_both_have_however_the_keys_are_cut() -> None:
    wanted = Counter[int]()
    for table in ENTRIES:
        buckets = {key: {int(one) & 0xFFFFFFFF for one in table[table >> OWNER_BITS == key]} for key in range(N_KEYS)}
        for photos in buckets.values():
            wanted.update(first * N_PHOTOS + second for first, second in combinations(sorted(photos), 2))
    whole = count_votes(ENTRIES, N_PHOTOS)
    assert whole.tolist() == [pair << int(VOTE_BITS) | votes for pair, votes in sorted(wanted.items())]

    parts = [[table[(table >> OWNER_BITS) % 3 == part] for table in ENTRIES] for part in range(3)]
    assert np.array_equal(add_votes([count_votes(part, N_PHOTOS) for part in parts]), whole)
    assert pairs_with(whole, 2).tolist() == sorted(pair for pair, votes in wanted.items() if votes >= 2)


def test_photos_without_keys_have_no_pairs() -> None:
    none = count_votes(ENTRIES[:, :0], N_PHOTOS)
    assert len(none) == len(add_votes([none, none])) == len(pairs_with(none, 1)) == 0


def test_there_is_room_for_as_many_votes_as_two_photos_can_have() -> None:
    assert 1 << int(VOTE_BITS) > TABLES * KEYPOINTS_MAX
