"""A split by lists: photos are on the sides that the lists say, and what the lists leave open is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from ray_trash.dataset.official import OFFICIAL_LISTS, parse_official_list
from ray_trash.dataset.split import SplitRule
from ray_trash.errors import DataError
from tests.unit.dataset.catalogs import assign, catalog, sha256

SHARED = Path(__file__).parents[3].parent / "shared" / "trashnet"
TINY_LISTS = {
    "train": "glass1.jpg 1\npaper1.jpg 2\n",
    "val": "glass2.jpg 1\n",
    "test": "paper2.jpg 2\n",
}


def write_lists(folder: Path, **changes: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for side, content in (TINY_LISTS | changes).items():
        if content:
            (folder / f"one-indexed-files-notrash_{side}.txt").write_text(content)
    return folder


TINY = ["glass/glass1.jpg", "glass/glass2.jpg", "paper/paper1.jpg", "paper/paper2.jpg"]
OFFICIAL = SplitRule("official")


@pytest.mark.parametrize("place", ["root", "class root", "above"])
def test_official_lists_are_found_beside_and_above_the_class_folders(tmp_path: Path, place: str) -> None:
    prefix = "images/" if place == "class root" else ""
    root = tmp_path / "photos"
    write_lists({"root": root, "class root": root / "images", "above": tmp_path}[place])
    sides, warnings = assign(catalog(f"{prefix}{path}" for path in TINY), OFFICIAL, str(root))
    assert sides == {
        f"{prefix}glass/glass1.jpg": "train",
        f"{prefix}glass/glass2.jpg": "val",
        f"{prefix}paper/paper1.jpg": "train",
        f"{prefix}paper/paper2.jpg": "test",
    }
    assert warnings == ["no photo in val of: paper"]


def test_photos_in_no_list_are_on_no_side_and_counted(tmp_path: Path) -> None:
    sides, warnings = assign(catalog([*TINY, "glass/new.jpg"]), OFFICIAL, str(write_lists(tmp_path)))
    assert sides["glass/new.jpg"] is None
    assert any("1 photo ('glass/new.jpg')" in warning for warning in warnings)


def test_listed_photos_that_are_missing_are_counted(tmp_path: Path) -> None:
    sides, warnings = assign(catalog(TINY[:-1]), OFFICIAL, str(write_lists(tmp_path)))
    assert "test" not in sides.values()
    assert any("1 photo ('paper2.jpg') not among the photos" in warning for warning in warnings)


def test_a_listed_photo_that_is_rejected_has_no_side_and_is_not_missing(tmp_path: Path) -> None:
    sides, warnings = assign(catalog(TINY, rejected=TINY[:1]), OFFICIAL, str(write_lists(tmp_path)))
    assert sides[TINY[0]] is None
    assert not any("not among" in warning for warning in warnings)


def test_equal_names_in_two_classes_are_told_apart_by_the_class_number(tmp_path: Path) -> None:
    root = write_lists(tmp_path, train="1.jpg 1\n", val="1.jpg 2\n", test="")
    sides, _ = assign(catalog(["glass/1.jpg", "paper/1.jpg"]), OFFICIAL, str(root))
    assert sides == {"glass/1.jpg": "train", "paper/1.jpg": "val"}


def test_a_list_that_contradicts_the_folder_is_refused(tmp_path: Path) -> None:
    root = write_lists(tmp_path, val="glass2.jpg 2\n")
    with pytest.raises(DataError, match=r"val\.txt, line 1: glass2\.jpg is paper.*'glass/glass2\.jpg'"):
        assign(catalog(TINY), OFFICIAL, str(root))


def test_a_photo_on_two_lists_is_refused(tmp_path: Path) -> None:
    root = write_lists(tmp_path, val="glass2.jpg 1\nglass1.jpg 1\n")
    with pytest.raises(DataError, match=r"val\.txt, line 2: glass1\.jpg is already in train, .*line 1"):
        assign(catalog(TINY), OFFICIAL, str(root))


@pytest.mark.parametrize("content", ["glass2.jpg\n", "glass2.jpg 7\n", "1\n", "<html>", b"\xff\xfe\n"])
def test_a_damaged_list_names_its_line(content: str | bytes) -> None:
    encoded = content if isinstance(content, bytes) else content.encode()
    with pytest.raises(DataError, match=r"val\.txt"):
        parse_official_list(b"\n" + encoded, "val.txt")


def test_official_without_lists_says_where_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.split=official: no one-indexed.*fetch trashnet.*stratified"):
        assign(catalog(TINY), OFFICIAL, str(tmp_path / "photos"))


def test_an_official_side_without_list_is_reported(tmp_path: Path) -> None:
    root = write_lists(tmp_path, test="")
    sides, warnings = assign(catalog(TINY), OFFICIAL, str(root))
    assert sides["paper/paper2.jpg"] is None
    assert any("no one-indexed-files-notrash_test.txt" in warning for warning in warnings)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared TrashNet photos are not here")
def test_trashnets_own_lists_name_every_shared_photo_once() -> None:
    paths = sorted(path.relative_to(SHARED).as_posix() for path in SHARED.glob("images/*/*.jpg"))
    sides, warnings = assign(catalog(paths), OFFICIAL, str(SHARED))
    found = list(sides.values())
    assert (found.count("train"), found.count("val"), found.count(None)) == (1768, 328, 0)
    assert len(warnings) == 1
    assert OFFICIAL_LISTS["test"] in warnings[0]


def test_official_clean_leaves_photos_out_of_train_only(tmp_path: Path) -> None:
    for side, lines in {"train": "a.jpg 1\nb.jpg 2\nd.jpg 1\ne.jpg 2\n", "val": "c.jpg 1\nf.jpg 2\n"}.items():
        (tmp_path / OFFICIAL_LISTS[side]).write_text(lines)  # type: ignore[index]
    paths = ["glass/a.jpg", "glass/c.jpg", "glass/d.jpg", "paper/b.jpg", "paper/e.jpg", "paper/f.jpg"]
    contents = {"glass/a.jpg": "twin", "glass/c.jpg": "twin"}
    rule = SplitRule("official-clean", left_out=frozenset([sha256("twin")]))
    sides, _ = assign(catalog(paths, contents), rule, str(tmp_path))
    assert [sides[path] for path in paths] == [None, "val", "train", "train", "train", "val"]
