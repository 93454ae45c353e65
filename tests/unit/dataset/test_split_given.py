"""A split that is given, by a file, by folders or by a table of labels, is followed to the letter."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from ray_trash.dataset.columns import table_of
from ray_trash.dataset.groups.relations import Relation
from ray_trash.dataset.listing import LISTING_SCHEMA
from ray_trash.dataset.split import SplitRule, make_rule, with_groups
from ray_trash.errors import ConfigError, DataError
from tests.unit.dataset.catalogs import assign, catalog, listing_of, many


def test_a_split_file_is_followed(tmp_path: Path) -> None:
    (tmp_path / "split.csv").write_text(
        'path,split\nglass/glass1.jpg,train\n./glass/glass2.jpg,val\n"paper/a ""b"", c.jpg",test\ngone.jpg,train\n'
    )
    glass = ["glass/glass1.jpg", "glass/glass2.jpg"]
    photos = [*glass, 'paper/a "b", c.jpg', "paper/x.jpg"]
    rule = make_rule(str(tmp_path / "split.csv"), 0.15, 0.15, listing_of(*photos))
    sides, warnings = assign(catalog(photos), rule)
    assert sides == {glass[0]: "train", glass[1]: "val", 'paper/a "b", c.jpg': "test", "paper/x.jpg": None}
    assert any("1 photo ('gone.jpg') not among the photos" in warning for warning in warnings)
    assert any("1 photo ('paper/x.jpg'): on no side" in warning for warning in warnings)
    assert "no photo in train of: paper" in warnings


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("glass/a.jpg,train\n", "must begin with a line that names its columns"),
        ("path,split\n", "no row below"),
        ("path,split\na.jpg,b\n", r"line 2: 'b' is no side of the split; .* train, val, test: path='a\.jpg'"),
        ("path,split\na.jpg,\n", "line 2: '' is no side of the split"),
        ("path,split\na.jpg\n", "line 2"),
        ("path,split\na.jpg,train,x\n", "line 2"),
        ("path,split\na.jpg,train\n\na.jpg,val\n", r"line 4: 'a\.jpg' is listed a second time, .*; before, in line 2"),
        ("path,split\ngone.jpg,val\nx.jpg,val\n", r"none of its 2 rows .* path='gone\.jpg', .* such as 'a\.jpg'"),
        ("path,split\n1.jpg,train\n", r"line 2: '1\.jpg' may be 'glass/1\.jpg' or 'paper/1\.jpg'"),
        (b"path,split\n\xff.jpg,train\n", "UTF-8"),
        (b"\x89PNG\r\n\x1a\n\0\0", "UTF-8"),
    ],
)
def test_a_damaged_split_file_names_file_and_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    file = tmp_path / "split.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=rf"data\.split: .*split\.csv.*{message}"):
        make_rule(str(file), 0.15, 0.15, listing_of("a.jpg", "glass/1.jpg", "paper/1.jpg"))


@pytest.mark.parametrize(
    "content",
    [
        "path,split\r\nglass\\a.jpg,train\r\npaper\\\u00e9.jpg,val\r\n",
        "Split;x;Filename;\nTraining;1;/data/photos/glass/a.jpg;\nValid;2;/data/photos/paper/\u00e9.JPG;\n;;;\n",
        "sep=;\nimage_path;SUBSET\nphotos/glass/a.jpg;train\nphotos\\paper\\e\u0301.jpg;dev\n",
        "path,split\rglass/a.jpg,train\rpaper/\u00e9.jpg,val\r",
        "image_id\tset\nglass/a\ttrain\n\u00e9\tvalidation\n",
        'file|split\nC:\\Users\\me\\photos\\glass\\a.jpg|train\n"..\\photos\\.\\paper\\\u00e9.jpg"|val\n',
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_a_split_file_may_be_written_by_windows_and_other_tools(tmp_path: Path, content: str, encoding: str) -> None:
    (tmp_path / "split").write_bytes(content.encode(encoding))
    rule = make_rule(str(tmp_path / "split"), 0.15, 0.15, listing_of("glass/a.jpg", "paper/e\u0301.jpg"))
    assert rule.assignments == {"glass/a.jpg": "train", "paper/e\u0301.jpg": "val"}


def test_a_split_file_names_no_photo_outside_the_root(tmp_path: Path) -> None:
    outside = ["../glass/a.jpg", "/glass/a.jpg", "/data/other/glass/a.jpg", "paper/../../x/glass/a.jpg", ".", "/"]
    (tmp_path / "split.csv").write_text("path,split\na.jpg,train\n" + "".join(f"{path},val\n" for path in outside))
    rule = make_rule(str(tmp_path / "split.csv"), 0.15, 0.15, listing_of("glass/a.jpg"))
    sides, warnings = assign(catalog(["glass/a.jpg"]), rule)
    assert sides == {"glass/a.jpg": "train"}
    assert any("6 photos ('.', '../glass/a.jpg'," in warning for warning in warnings)


def test_a_split_that_is_no_word_and_no_file_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match=r"data\.split='offical' is none of auto, official, .*, nor a file"):
        make_rule("offical", 0.15, 0.15, listing_of())


SPLIT = replace(listing_of(), sides=("test", "training", "valid"))


def test_folders_are_followed_and_a_photo_outside_them_is_on_no_side() -> None:
    rule = make_rule("auto", 0.15, 0.15, SPLIT)
    assert rule == make_rule("folders", 0.15, 0.15, SPLIT) == SplitRule("folders")
    paths = ["training/glass/1.jpg", "training/paper/1.jpg", "valid/glass/1.jpg", "valid/paper/1.jpg"]
    sides, warnings = assign(catalog([*paths, "test/glass/1.jpg"]), rule)
    assert sides == dict(zip([*paths, "test/glass/1.jpg"], ["train", "train", "val", "val", "test"], strict=True))
    assert warnings == ["no photo in test of: paper"]
    sides, warnings = assign(catalog([f"images/{path}" for path in paths]), rule)
    assert [side for _, side in sorted(sides.items())] == ["train", "train", "val", "val"]
    assert warnings == ["there is no folder test with photos: nothing is kept back to evaluate on"]
    sides, warnings = assign(catalog(["glass/1.jpg", "paper/1.jpg"]), rule)
    assert set(sides.values()) == {None}
    assert any("do not hold 2 photos" in warning for warning in warnings)


def test_validation_that_is_missing_comes_from_train_in_whole_groups_and_leaves_test_alone() -> None:
    rule = make_rule("folders", 0.3, 0.15, replace(listing_of(), sides=("test", "train")))
    table = catalog([*many("train/glass", 200), *many("train/paper", 200), *many("test/glass", 50)])
    rows = {path: row for row, path in enumerate(table["path"].to_pylist())}
    pairs = [(f"train/glass/{n}.jpg", f"train/glass/{n + 1}.jpg") for n in range(0, 200, 2)]
    relations = [Relation(rows[one], rows[other], "near") for one, other in pairs]
    stored = SplitRule.from_json(json.loads(json.dumps(with_groups(rule, table, relations, "/nowhere").to_json())))
    sides, _ = assign(table, stored)
    assert all(sides[one] == sides[other] for one, other in pairs)
    found = [side for path, side in sides.items() if path.startswith("train/")]
    assert set(found) == {"train", "val"}
    assert found.count("val") / 400 == pytest.approx(0.3, abs=0.11)
    assert {side for path, side in sides.items() if path.startswith("test/")} == {"test"}


def test_validation_that_a_table_of_labels_does_not_say_comes_from_train_too() -> None:
    train, test = many("glass", 100), many("paper", 20)
    listing = listing_of(*train, *test)
    sides_of_table = ["train" if path in train else "test" for path in listing.entries["path"].to_pylist()]
    entries = table_of({"path": listing.entries["path"], "split": pa.array(sides_of_table)}, LISTING_SCHEMA)
    rule = make_rule("auto", 0.3, 0.15, replace(listing, entries=entries))
    table = catalog([*train, *test, "glass/other.jpg"])
    stored = SplitRule.from_json(json.loads(json.dumps(with_groups(rule, table, [], "/nowhere").to_json())))
    sides, warnings = assign(table, stored)
    assert {sides[path] for path in train} == {"train", "val"}
    assert {sides[path] for path in test} == {"test"}
    assert sides["glass/other.jpg"] is None
    assert "the table of labels gives no side of the split to 1 photo ('glass/other.jpg'): on no side" in warnings[0]


def test_folders_that_are_not_there_are_asked_for_in_vain() -> None:
    with pytest.raises(DataError, match=r"data\.split=folders: /data/photos has no folders train, val and test"):
        make_rule("folders", 0.15, 0.15, listing_of())
