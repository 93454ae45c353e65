"""Files of activations: whole or not there, read back as written, within their budget."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from ray_trash.errors import StorageError
from ray_trash.train.frozen.files import CHUNK, ActivationFiles, ActivationSet, key_of, make_room

N = CHUNK + 3


def files(folder: Path, *, views: int = 2) -> ActivationFiles:
    return ActivationFiles(
        folder,
        "key",
        [ActivationSet("train", N, views, (2, 2, 4), torch.bfloat16), ActivationSet("val", 3, 1, (8,), torch.float32)],
    )


def written(folder: Path) -> tuple[ActivationFiles, dict[tuple[str, int], torch.Tensor]]:
    """Write every file. Returns it with what was written, by side and view, in the order of the photos."""
    made = files(folder)
    content = {("val", 0): torch.randn(3, 8)}
    content |= {("train", view): torch.randn(N, 4, 2, 2).to(torch.bfloat16) for view in range(2)}
    for side in ("train", "val"):
        described = made.sets[side]
        for view, chunk in described.chunks():
            made.write(side, view, chunk, content[side, view][described.positions(chunk)])
    return made, content


def test_what_is_written_is_read_back_to_the_bit_in_any_order(tmp_path: Path) -> None:
    made, content = written(tmp_path)
    made.open()
    positions = np.array([N - 1, 0, CHUNK, 5])
    for view in range(2):
        read = made.read("train", view, positions)
        assert read.is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(read, content["train", view][positions])
    assert torch.equal(made.read("val", 0, np.array([2, 0])), content["val", 0][[2, 0]])


def test_a_file_that_is_not_whole_counts_as_missing_and_is_never_read(tmp_path: Path) -> None:
    made, _ = written(tmp_path)
    assert made.missing("train") == made.missing("val") == []
    victim = made.folder / "train-v001-c00001.bin"
    victim.write_bytes(victim.read_bytes()[:-2])
    (made.folder / ".partial-abc").write_bytes(b"x" * 64)
    assert files(tmp_path).missing("train") == [(1, 1)]
    with pytest.raises(StorageError, match=r"train-v001-c00001\.bin"):
        files(tmp_path).open()


def test_more_views_lack_only_the_new_ones(tmp_path: Path) -> None:
    written(tmp_path)
    assert {view for view, _ in files(tmp_path, views=3).missing("train")} == {2}


def test_the_key_changes_with_anything_it_depends_on() -> None:
    base = {"weights": "a", "photos": {"train": "b"}, "cut": 3}
    changed = [{**base, "weights": "c"}, {**base, "photos": {"train": "c"}}, {**base, "cut": 4}, {**base, "size": 1}]
    assert len({key_of(base), *map(key_of, changed)}) == 5
    assert key_of(dict(reversed(base.items()))) == key_of(base)


def test_room_is_made_by_removing_what_was_used_least_recently(tmp_path: Path) -> None:
    mine, newest, middle, oldest = (key_of({"number": number}) for number in range(4))
    for age, key in enumerate((newest, middle, oldest)):
        (tmp_path / key).mkdir()
        (tmp_path / key / "x.bin").write_bytes(b"x" * 100)
        os.utime(tmp_path / key, (1e9 - age, 1e9 - age))
    assert make_room(tmp_path, frozenset({mine}), budget_bytes=350, needed_bytes=50) == []
    assert make_room(tmp_path, frozenset({mine}), budget_bytes=250, needed_bytes=100) == [oldest, middle]
    assert [path.name for path in tmp_path.iterdir()] == [newest]
    assert make_room(tmp_path, frozenset({newest}), budget_bytes=1, needed_bytes=1) == []


def test_making_room_takes_nothing_away_that_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"x" * 100)
    elsewhere = tmp_path / "photos"
    (tmp_path / key_of({"number": 0})).symlink_to(elsewhere)
    assert make_room(tmp_path, frozenset(), budget_bytes=1, needed_bytes=1) == []
    assert (elsewhere / "a.jpg").exists()


def test_a_full_disk_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    with pytest.raises(StorageError, match=r"train\.cache_frozen"):
        files(blocked).write("val", 0, 0, torch.zeros(3, 8))
    assert blocked.read_bytes() == b""
