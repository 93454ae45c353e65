"""Sets that come split, in folders train, val and test: taken as they are meant, or refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray_trash.dataset.columns import rows_in
from ray_trash.dataset.layout import given_side
from ray_trash.dataset.listing import list_photos
from ray_trash.errors import DataError
from tests.photos import put


def split_paths(*sides: str) -> list[str]:
    return [f"{side}/{label}/{number}.jpg" for side in sides for label in ("glass", "paper") for number in range(2)]


@pytest.mark.parametrize("above", ["", "images/", "data/"])
@pytest.mark.parametrize("sides", [("train", "val", "test"), ("Training", "dev"), ("TEST", "train"), ("valid", "test")])
def test_folders_named_as_sides_hold_the_classes(above: str, sides: tuple[str, ...], tmp_path: Path) -> None:
    put(tmp_path, *(f"{above}{path}" for path in split_paths(*sides)), f"{above}README.md", ".git/config")
    listing = list_photos(str(tmp_path))
    assert listing.classes == ("glass", "paper")
    assert listing.sides == tuple(sorted(sides))
    assert listing.warnings == ()
    named = {"t": "train", "T": "train", "d": "val", "v": "val"} | {"te": "test", "TE": "test"}
    for path, label in rows_in(listing.files, "path", "label"):
        side, folder = path.removeprefix(above).split("/")[:2]
        assert label == folder
        assert given_side(path, label) == named.get(side[:2], named[side[0]])


def test_an_empty_side_is_none_and_no_class(tmp_path: Path) -> None:
    put(tmp_path, *split_paths("train", "test"), "val/.gitkeep")
    assert list_photos(str(tmp_path)).sides == ("test", "train")
    (tmp_path / "only").mkdir()
    put(tmp_path / "only", *split_paths("train"), "test/README.txt")
    listing = list_photos(str(tmp_path / "only"))
    assert listing.classes == ("glass", "paper")


def test_classes_that_are_called_train_and_test_stay_classes(tmp_path: Path) -> None:
    listing = list_photos(str(put(tmp_path / "a", "train/1.jpg", "test/2.jpg")))
    assert (listing.classes, listing.sides) == (("test", "train"), ())
    listing = list_photos(str(put(tmp_path / "b", "train/1.jpg", "train/old/2.jpg", "car/3.jpg")))
    assert (listing.classes, listing.sides) == (("car", "train"), ())
    listing = list_photos(str(put(tmp_path / "c", *split_paths("train", "test"))), ["train", "test"])
    assert (listing.classes, listing.sides) == (("train", "test"), ())


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        (["train/glass/1.jpg", "test/1.jpg"], "'test/1.jpg' is in no class folder"),
        (["train/glass/1.jpg", "glass/2.jpg"], "'glass' is in it and beside it"),
        (["train/glass/1.jpg", "test/glass/1.jpg", "extra/1.jpg"], "beside 'test', 'train' there is 'extra'"),
        (["train/glass/1.jpg", "val/glass/1.jpg", "validation/glass/1.jpg"], "'val' and 'validation' are both for val"),
        (["data/train/glass/1.jpg", "data/Train/glass/1.jpg"], "'Train' and 'train' are both for train"),
    ],
)
def test_what_could_mean_two_things_is_refused_by_name(paths: list[str], words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words):
        list_photos(str(put(tmp_path, *paths)))


def test_sides_below_the_classes_are_not_taken_and_that_is_said(tmp_path: Path) -> None:
    listing = list_photos(str(put(tmp_path, "glass/train/1.jpg", "glass/test/2.jpg", "paper/train/1.jpg")))
    assert (listing.classes, listing.sides) == (("glass", "paper"), ())
    assert any("'test', 'train' in a class folder are not taken" in warning for warning in listing.warnings)
    assert given_side("glass/train/1.jpg", "glass") is None
