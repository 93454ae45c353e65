"""Sides of the split as a function of content and of groups, and the rule as it is stored."""

from __future__ import annotations

import json

import pytest

from ray_trash.dataset.groups.relations import Relation
from ray_trash.dataset.split import SplitRule, with_groups
from tests.unit.dataset.catalogs import assign, catalog, many

STRATIFIED = SplitRule("stratified", 0.15, 0.15)


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


@pytest.mark.parametrize(
    "rule",
    [SplitRule("official"), STRATIFIED, SplitRule("file", assignments={"glass/a.jpg": "train", "glass/b.jpg": "val"})],
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
