"""Sides of the split: a function of content, or exactly what the lists say."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from ray_trash.dataset.catalog import CATALOG_SCHEMA
from ray_trash.dataset.columns import table_of
from ray_trash.dataset.groups.relations import Relation
from ray_trash.dataset.listing import LISTING_SCHEMA, Listing
from ray_trash.dataset.official import OFFICIAL_LISTS, parse_official_list
from ray_trash.dataset.split import SplitRule, assign_splits, make_rule, with_groups
from ray_trash.errors import ConfigError, DataError

STRATIFIED = SplitRule("stratified", 0.15, 0.15)
SHARED = Path(__file__).parents[3].parent / "shared" / "trashnet"


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def catalog(paths: Iterable[str], contents: dict[str, str] | None = None, rejected: Sequence[str] = ()) -> pa.Table:
    rows = [
        {
            "row": row,
            "path": path,
            "label": path.split("/")[-2],
            "sha256": sha256((contents or {}).get(path, path)),
            "verdict": "rejected" if path in rejected else "accepted",
        }
        for row, path in enumerate(sorted(paths))
    ]
    return pa.Table.from_pylist(rows, schema=CATALOG_SCHEMA)


def assign(table: pa.Table, rule: SplitRule, root: str = "/nowhere") -> tuple[dict[str, str | None], list[str]]:
    sides, warnings = assign_splits(table, rule, root)
    return dict(zip(table["path"].to_pylist(), sides.to_pylist(), strict=True)), warnings


def listing_of(*paths: str) -> Listing:
    return Listing("/data/photos", (), table_of({"path": pa.array(sorted(paths), pa.string())}, LISTING_SCHEMA), ())


def many(label: str, n: int, start: int = 0) -> list[str]:
    return [f"{label}/{number}.jpg" for number in range(start, start + n)]


def test_stratified_shares_are_close_to_the_fractions_in_every_class() -> None:
    sides, warnings = assign(catalog([*many("glass", 2000), *many("paper", 2000)]), SplitRule("stratified", 0.2, 0.1))
    for label in ("glass", "paper"):
        here = [side for path, side in sides.items() if path.startswith(label)]
        # Four standard deviations of a share of 2000.
        assert here.count("val") / 2000 == pytest.approx(0.2, abs=0.036)
        assert here.count("test") / 2000 == pytest.approx(0.1, abs=0.027)
        assert here.count("train") + here.count("val") + here.count("test") == 2000
    assert warnings == []


def test_adding_files_moves_no_photo() -> None:
    before, _ = assign(catalog([*many("glass", 300), *many("paper", 200)]), STRATIFIED)
    after, _ = assign(catalog([*many("glass", 900), *many("paper", 210), *many("metal", 50)]), STRATIFIED)
    assert {path: after[path] for path in before} == before


def test_renaming_and_relabelling_move_no_photo() -> None:
    before, _ = assign(catalog(many("glass", 300)), STRATIFIED)
    contents = {f"paper/new{number}.jpg": f"glass/{number}.jpg" for number in range(300)}
    after, _ = assign(catalog(contents, contents), STRATIFIED)
    assert {contents[path]: side for path, side in after.items()} == before


def test_equal_bytes_land_on_one_side_also_across_classes() -> None:
    originals = many("glass", 300)
    contents = {f"paper/copy{number}.jpg": path for number, path in enumerate(originals)}
    sides, _ = assign(catalog([*originals, *contents], contents), STRATIFIED)
    assert all(sides[copy] == sides[original] for copy, original in contents.items())


def test_only_accepted_photos_have_a_side() -> None:
    sides, _ = assign(catalog(many("glass", 50), rejected=["glass/7.jpg"]), STRATIFIED)
    assert [path for path, side in sides.items() if side is None] == ["glass/7.jpg"]


def falling(side: str, label: str, n: int) -> list[str]:
    """Find photos whose content falls on a side."""
    # A class of one photo would be moved to train, so each lies among others.
    sides, _ = assign(catalog(many(label, 400)), SplitRule("stratified", 0.3, 0.3))
    return [path for path, found in sides.items() if found == side][:n]


def test_a_class_without_training_photo_goes_to_train_whole() -> None:
    lonely = [*falling("val", "glass", 1), *falling("test", "glass", 2)]
    sides, warnings = assign(catalog([*lonely, *many("paper", 100)]), SplitRule("stratified", 0.3, 0.3))
    assert [sides[path] for path in lonely] == ["train"] * 3
    assert any("'glass' is so small" in warning for warning in warnings)
    assert any("no photo in val of: glass" in warning for warning in warnings)


def test_an_empty_validation_side_gets_one_photo_of_each_class_that_can_spare_one() -> None:
    paths = [*falling("train", "glass", 3), *falling("train", "paper", 2), *falling("train", "metal", 1)]
    sides, warnings = assign(catalog(paths), SplitRule("stratified", 0.3, 0.3))
    moved = sorted(path.split("/")[0] for path, side in sides.items() if side == "val")
    assert moved == ["glass", "paper"]
    assert any("no photo fell into val" in warning for warning in warnings)
    assert any("no photo in val of: metal" in warning for warning in warnings)


def test_a_photo_moved_to_validation_takes_its_copies_along_and_leaves_no_class_empty() -> None:
    glass = falling("train", "glass", 2)
    # The only content of `paper` is one of glass's, so glass must give the other one.
    contents = {"paper/copy.jpg": glass[0]}
    sides, _ = assign(catalog([*glass, *contents], contents), SplitRule("stratified", 0.3, 0.3))
    assert sides[glass[0]] == sides["paper/copy.jpg"] == "train"
    assert sides[glass[1]] == "val"


def test_without_a_validation_fraction_nothing_is_moved_or_said() -> None:
    paths = falling("train", "glass", 3)
    sides, warnings = assign(catalog(paths), SplitRule("stratified", 0.0, 0.3))
    assert set(sides.values()) == {"train"}
    assert warnings == []


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


def test_a_split_file_is_followed(tmp_path: Path) -> None:
    (tmp_path / "split.csv").write_text(
        'path,split\nglass/glass1.jpg,train\n./glass/glass2.jpg,val\n"paper/a ""b"", c.jpg",test\ngone.jpg,train\n'
    )
    photos = [*TINY[:2], 'paper/a "b", c.jpg', "paper/x.jpg"]
    rule = make_rule(str(tmp_path / "split.csv"), 0.15, 0.15, listing_of(*photos))
    sides, warnings = assign(catalog(photos), rule)
    assert sides == {TINY[0]: "train", TINY[1]: "val", 'paper/a "b", c.jpg': "test", "paper/x.jpg": None}
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


@pytest.mark.parametrize(
    "rule", [OFFICIAL, STRATIFIED, SplitRule("file", assignments={"glass/a.jpg": "train", "glass/b.jpg": "val"})]
)
def test_a_rule_survives_json(rule: SplitRule) -> None:
    assert SplitRule.from_json(json.loads(json.dumps(rule.to_json()))) == rule


@pytest.mark.parametrize(
    "values",
    [
        {},
        [],
        {"kind": "random"},
        {"kind": "official", "val_fraction": 0.1},
        {"kind": "stratified", "val_fraction": 0.1},
        {"kind": "stratified", "val_fraction": "0.1", "test_fraction": 0.1},
        {"kind": "stratified", "val_fraction": 1.5, "test_fraction": 0.1},
        {"kind": "file", "assignments": {"a.jpg": "training"}},
        {"kind": "file", "assignments": {"a.jpg": ["train"]}},
        {"kind": "file", "assignments": ["a.jpg"]},
        {"kind": ["file"], "assignments": {}},
    ],
)
def test_a_rule_that_is_none_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="split rule"):
        SplitRule.from_json(values)


def test_a_group_is_never_on_two_sides_and_other_photos_stay_where_they_were() -> None:
    paths = [*many("glass", 300), *many("paper", 300)]
    table = catalog(paths)
    hashes = dict(zip(table["path"].to_pylist(), table["sha256"].to_pylist(), strict=True))
    bursts = [[f"glass/{start + shot}.jpg" for shot in range(4)] for start in range(0, 120, 4)]
    anchors = {hashes[path]: min(hashes[other] for other in burst) for burst in bursts for path in burst}
    alone, _ = assign(table, SplitRule("grouped", 0.15, 0.15))
    grouped, _ = assign(table, SplitRule("grouped", 0.15, 0.15, anchors=anchors))
    assert all(len({grouped[path] for path in burst}) == 1 for burst in bursts)
    assert any(len({alone[path] for path in burst}) > 1 for burst in bursts)
    in_bursts = {path for burst in bursts for path in burst}
    assert all(grouped[path] == alone[path] for path in paths if path not in in_bursts)


def test_adding_a_photo_of_another_shot_moves_no_photo_and_one_of_a_known_shot_may_move_that_shot_only() -> None:
    def sides_with(*added: str, tied: bool) -> dict[str, str | None]:
        table = catalog([*many("glass", 60), *added])
        rows = [row for row, path in enumerate(table["path"].to_pylist()) if path in ("glass/0.jpg", *added)]
        relations = [Relation(rows[0], rows[-1], "near")] if tied else []
        return assign(table, with_groups(SplitRule("grouped", 0.2, 0.2), table, relations, "/nowhere"))[0]

    before = sides_with(tied=False)
    moved = set()
    for number in range(60, 120):
        added = f"glass/{number}.jpg"
        alone, tied = (sides_with(added, tied=tied) for tied in (False, True))
        assert {path: side for path, side in alone.items() if path != added} == before
        moved |= {path for path, side in before.items() if tied[path] != side}
    assert moved == {"glass/0.jpg"}


def test_without_groups_grouped_is_stratified() -> None:
    table = catalog(many("glass", 300))
    assert assign(table, SplitRule("grouped", 0.2, 0.1)) == assign(table, SplitRule("stratified", 0.2, 0.1))


def test_official_clean_leaves_photos_out_of_train_only(tmp_path: Path) -> None:
    for side, lines in {"train": "a.jpg 1\nb.jpg 2\nd.jpg 1\ne.jpg 2\n", "val": "c.jpg 1\nf.jpg 2\n"}.items():
        (tmp_path / OFFICIAL_LISTS[side]).write_text(lines)  # type: ignore[index]
    paths = ["glass/a.jpg", "glass/c.jpg", "glass/d.jpg", "paper/b.jpg", "paper/e.jpg", "paper/f.jpg"]
    contents = {"glass/a.jpg": "twin", "glass/c.jpg": "twin"}
    rule = SplitRule("official-clean", left_out=frozenset([sha256("twin")]))
    sides, _ = assign(catalog(paths, contents), rule, str(tmp_path))
    assert [sides[path] for path in paths] == [None, "val", "train", "train", "train", "val"]


@pytest.mark.parametrize(
    "rule",
    [
        SplitRule("grouped", 0.2, 0.1, anchors={"b": "a", "a": "a"}),
        SplitRule("official-clean", left_out=frozenset({"a", "b"})),
    ],
)
def test_a_stored_rule_keeps_its_groups(rule: SplitRule) -> None:
    assert SplitRule.from_json(json.loads(json.dumps(rule.to_json()))) == rule


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "grouped", "val_fraction": 0.1, "test_fraction": 0.1},
        {"kind": "grouped", "val_fraction": 0.1, "test_fraction": 0.1, "anchors": {"a": 1}},
        {"kind": "official-clean", "left_out": "ab"},
    ],
)
def test_a_damaged_stored_rule_of_groups_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="split rule"):
        SplitRule.from_json(values)
