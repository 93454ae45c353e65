"""Copies and bursts are found, other photos are not, and nothing depends on who else is in the set."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from ray_trash.cluster.here import Done
from ray_trash.dataset.columns import table_of
from ray_trash.dataset.groups.candidates import MIN_VOTES, find_candidates
from ray_trash.dataset.groups.keys import count_votes, hash_points, pairs_with, scaling_of
from ray_trash.dataset.groups.near import check_pairs, find_near_pairs, shapes_of
from ray_trash.dataset.groups.relations import Relation, anchors_of, connected
from ray_trash.dataset.groups.sketches import (
    KEYPOINTS_SCHEMA,
    PICTURES_SCHEMA,
    SUMMARY_SCHEMA,
    Details,
    Sketches,
    keypoints_of,
    sketch_columns,
)
from ray_trash.image.decode import open_photo
from ray_trash.terminal.say import Terminal
from tests.bursts import draw_burst, draw_scene, encode

N_BURSTS = 12


def details_of(files: list[bytes]) -> pa.Table:
    rows = []
    for encoded in files:
        image = open_photo(encoded, min_short_side_px=240)
        rows.append(sketch_columns(image, np.array(image)))
    return pa.Table.from_pylist(rows, schema=pa.schema([*KEYPOINTS_SCHEMA, *PICTURES_SCHEMA]))


def candidate_pairs(details: pa.Table, n_sample: int) -> np.ndarray:
    """Put together what tasks do; the first few photos are the sample."""
    keypoints = keypoints_of(details)
    scaling = scaling_of(np.concatenate([keypoints.of(photo)[1] for photo in range(n_sample)]))
    votes = count_votes(hash_points(keypoints, scaling, 0), len(details))
    return np.stack(np.divmod(pairs_with(votes, MIN_VOTES), len(details)), axis=1)


def near_pairs(details: pa.Table, n_sample: int | None = None) -> list[Relation]:
    return check_pairs(shapes_of(details), candidate_pairs(details, n_sample or len(details)))


@pytest.fixture(scope="module")
def bursts() -> pa.Table:
    rng = np.random.default_rng(0)
    return details_of([encoded for _ in range(N_BURSTS) for encoded in draw_burst(rng)])


def in_blocks(details: pa.Table, starts: list[int]) -> Sketches:
    """Cut a table as tasks leave it; a start that is there twice is a block without photos."""
    schemas = KEYPOINTS_SCHEMA, PICTURES_SCHEMA
    blocks = [
        Details(*(Done(details.slice(start, end - start).select(schema.names)) for schema in schemas))
        for start, end in pairwise(starts)
    ]
    n_points = np.diff(keypoints_of(details).starts)
    summary = table_of({"row": np.arange(len(details)), "n_points": n_points.astype(np.int32)}, SUMMARY_SCHEMA)
    return Sketches(summary, blocks, np.array(starts))


def test_candidates_and_pairs_are_the_same_however_sketches_are_cut_into_blocks_and_groups(
    bursts: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    n = len(bursts)
    wanted, sample = np.ones(n, np.bool_), np.arange(n)
    whole = find_candidates(in_blocks(bursts, [0, n]), wanted, sample, Terminal.silent())
    assert len(whole) >= 6 * N_BURSTS
    assert whole.tolist() == candidate_pairs(bursts, n).tolist()
    monkeypatch.setattr("ray_trash.dataset.groups.sketches.GROUP_PHOTOS", 13)
    monkeypatch.setattr("ray_trash.dataset.groups.candidates._PART_POINTS", 1000)
    cut = in_blocks(bursts, [0, 5, 5, 11, 25, 26, n])
    assert find_candidates(cut, wanted, sample, Terminal.silent()).tolist() == whole.tolist()
    without = wanted.copy()
    without[:4] = False
    left = find_candidates(cut, without, sample, Terminal.silent())
    assert left.tolist() == [pair for pair in whole.tolist() if pair[0] > 3]
    monkeypatch.setattr("ray_trash.dataset.groups.near._PAIRS_PER_TASK", 20)
    assert find_near_pairs(cut, wanted, sample, Terminal.silent()) == near_pairs(bursts)


def test_columns_of_some_photos_are_read_from_those_blocks_alone_that_hold_them(bursts: pa.Table) -> None:
    cut = in_blocks(bursts, [0, 5, 5, 11, 25, 26, len(bursts)])
    read = [*cut.blocks]
    read[1] = read[3] = Details(None, None)  # type: ignore[arg-type]
    read[0] = read[0]._replace(keypoints=None)  # type: ignore[arg-type]
    cut = replace(cut, blocks=read)
    positions = np.array([2, 3, 25, 40])
    for columns in (["thumbnail"], ["luma", "thumbnail"]):
        (found,) = cut.select(positions, columns, what="a test")
        assert found.value.column_names == ["position", *columns]
        assert found.value["position"].to_pylist() == positions.tolist()
        assert all(found.value[name].equals(bursts[name].take(positions)) for name in columns)
    later = positions[2:]
    (found,) = cut.select(later, ["luma", "points", "width_px"], what="a test")
    assert sorted(found.value.column_names) == ["luma", "points", "position", "width_px"]
    assert all(found.value[name].equals(bursts[name].take(later)) for name in ("luma", "points", "width_px"))
    assert cut.select(positions[:0], ["luma"], what="a test") == []


def test_every_burst_is_one_group_and_no_two_bursts_are(bursts: pa.Table) -> None:
    found = connected(near_pairs(bursts))
    assert found == [[4 * number + shot for shot in range(4)] for number in range(N_BURSTS)]


def test_unrelated_photos_are_not_near() -> None:
    rng = np.random.default_rng(1)
    details = details_of([encode(draw_scene(rng)) for _ in range(40)])
    assert near_pairs(details) == []


def test_a_mirror_image_is_found_and_said_to_be_one() -> None:
    scene = draw_scene(np.random.default_rng(2))
    mirror = scene.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    details = details_of([encode(scene), encode(mirror, quality=60)])
    (pair,) = near_pairs(details)
    assert (pair.first, pair.second, pair.mirrored) == (0, 1, True)


def test_other_photos_do_not_change_what_is_found(bursts: pa.Table) -> None:
    alone = near_pairs(bursts.slice(0, 8), 8)
    among = [pair for pair in near_pairs(bursts, 8) if pair.second < 8]
    assert among == alone


def test_photos_without_keypoints_are_near_to_nothing() -> None:
    plain = [encode(Image.new("RGB", (160, 120), (90, 90, grey))) for grey in (90, 91, 92)]
    details = details_of([encode(draw_scene(np.random.default_rng(3))), *plain])
    assert near_pairs(details) == []


def test_few_pairs_are_compared(bursts: pa.Table) -> None:
    candidates = candidate_pairs(bursts, len(bursts))
    n = len(bursts)
    assert 6 * N_BURSTS * 0.9 <= len(candidates) < n * (n - 1) / 2 / 4
    assert (candidates[:, 0] < candidates[:, 1]).all()
    assert candidates.tolist() == sorted(candidates.tolist())


def test_a_bucket_shared_by_everybody_costs_no_more_than_its_share() -> None:
    one = details_of([encode(draw_scene(np.random.default_rng(6)))])
    same = pa.concat_tables([one] * 300)
    candidates = candidate_pairs(same, 300)
    # Each with its four neighbours, not 44,850 pairs; and still all of them hang together.
    assert len(candidates) <= 300 * 4
    tied = connected(Relation(first, second, "near") for first, second in candidates.tolist())
    assert [len(group) for group in tied] == [300]


def test_groups_join_over_common_members_and_stand_by_their_smallest_hash() -> None:
    relations = [Relation(5, 7, "near"), Relation(1, 2, "bytes"), Relation(2, 5, "near"), Relation(3, 4, "pixels")]
    groups = connected(relations)
    assert groups == [[1, 2, 5, 7], [3, 4]]
    hashes = ["", "d", "c", "b", "a", "e", "", "f"]
    found = anchors_of(groups, pa.chunked_array([hashes]))
    assert found == {"d": "c", "c": "c", "e": "c", "f": "c", "b": "a", "a": "a"}
