"""The audit's numbers add up, and duplicates are found wherever they lie."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from ray_trash.audit.document import AuditDocument, build_audit
from ray_trash.dataset.catalog import CATALOG_SCHEMA, Side, fingerprint
from ray_trash.dataset.groups.relations import Relation


def photo(path: str, content: str, **values: Any) -> dict[str, Any]:
    defaults = {"label": path.split("/")[0], "size_bytes": 9, "sha256": content, "width": 4, "height": 3}
    return {"path": path, "verdict": "accepted", **defaults, **values}


def catalog(*rows: dict[str, Any]) -> pa.Table:
    numbered = [{"row": number, **row} for number, row in enumerate(rows)]
    return pa.Table.from_pylist(numbered, schema=CATALOG_SCHEMA)


CATALOG = catalog(
    photo("glass/a.jpg", "01"),
    photo("glass/b.jpg", "01"),
    photo("glass/bad.jpg", "01", verdict="rejected", reason="truncated", message="ends early"),
    photo("glass/c.jpg", "02"),
    photo("paper/a.jpg", "02"),
    photo("paper/b.jpg", "03"),
    photo("paper/c.jpg", "03"),
    {"path": "LICENSE", "verdict": "ignored", "reason": "not in a class folder"},
)
RELATIONS = [
    Relation(0, 1, "bytes"),
    Relation(3, 4, "bytes"),
    Relation(4, 5, "near", 20, 0.9),
    Relation(5, 6, "bytes"),
]
SIDES: list[Side | None] = ["train", "val", None, "train", "train", "test", None, None]


def audit(relations: list[Relation] = RELATIONS, **more: Any) -> AuditDocument:
    return build_audit(CATALOG.append_column("split", pa.array(SIDES, pa.string())), relations, **more)


def test_counts_add_up_to_all_rows() -> None:
    assert audit()["counts"] == {
        "seen": 8,
        "accepted": 6,
        "rejected": 1,
        "ignored": 1,
    }


def test_rejected_photos_are_named_with_their_reason() -> None:
    assert audit()["rejected"] == [{"path": "glass/bad.jpg", "reason": "truncated", "message": "ends early"}]


def test_equal_bytes_are_grouped_and_two_labels_are_a_conflict() -> None:
    document = audit()
    assert document["exact_duplicates"] == [
        ["glass/a.jpg", "glass/b.jpg"],
        ["glass/c.jpg", "paper/a.jpg"],
        ["paper/b.jpg", "paper/c.jpg"],
    ]
    conflict = {"paths": ["glass/c.jpg", "paper/a.jpg"], "labels": ["glass", "paper"], "kind": "bytes"}
    assert document["conflicts"] == [conflict]


def test_the_same_shot_ties_copies_to_one_group_and_keeps_its_pairs() -> None:
    document = audit()
    assert document["near_duplicates"] == [["glass/c.jpg", "paper/a.jpg", "paper/b.jpg", "paper/c.jpg"]]
    assert document["near_pairs"] == [
        {
            "paths": ["paper/a.jpg", "paper/b.jpg"],
            "splits": ["train", "test"],
            "shared_points": 20,
            "agreement": 0.9,
            "mirrored": False,
        }
    ]


def test_the_same_shot_under_two_labels_is_a_conflict_of_its_own_kind() -> None:
    document = audit([Relation(0, 4, "near", 30), Relation(0, 1, "near", 30)])
    assert [(entry["paths"], entry["kind"]) for entry in document["conflicts"]] == [
        (["glass/a.jpg", "paper/a.jpg"], "near")
    ]


def test_both_photos_of_a_conflict_are_suspects_that_name_one_another_and_come_before_what_was_learnt() -> None:
    learnt = [{"path": path, "label": "glass", "suggested": "paper", "score": 0.9} for path in ("glass/a.jpg", "c")]
    first, second, third = audit([Relation(0, 4, "near", 30)], suspects=learnt)["suspects"]
    assert (first["path"], first["suggested"], second["suggested"]) == ("glass/a.jpg", "paper", "glass")
    assert "same shot as paper/a.jpg" in first["reason"]
    assert third["path"] == "c"


def test_a_pair_equal_in_bytes_is_not_reported_again_as_a_weaker_conflict() -> None:
    relations = [Relation(3, 4, "bytes"), Relation(3, 5, "symmetry")]
    kinds = [entry["kind"] for entry in audit(relations)["conflicts"]]
    assert kinds == ["bytes", "symmetry"]


def test_sides_count_their_photos_and_name_the_groups_that_straddle() -> None:
    splits = {name: dict(side) for name, side in audit()["splits"].items()}
    assert all(len(str(side.pop("fingerprint"))) == 64 for side in splits.values())
    pair, chain = ["glass/a.jpg", "glass/b.jpg"], ["glass/c.jpg", "paper/a.jpg", "paper/b.jpg", "paper/c.jpg"]
    counts = {"glass": 0, "paper": 0}
    assert splits == {
        "train": {
            "n": 3,
            "per_class": {"glass": 2, "paper": 1},
            "straddling_groups": [pair, chain],
            "twins_in_train": 0,
        },
        "val": {"n": 1, "per_class": {**counts, "glass": 1}, "straddling_groups": [pair], "twins_in_train": 1},
        "test": {"n": 1, "per_class": {**counts, "paper": 1}, "straddling_groups": [chain], "twins_in_train": 1},
    }


def test_the_audit_is_plain_json_with_warnings_and_fingerprint() -> None:
    document = audit(warnings=["nested"])
    assert json.loads(json.dumps(document)) == document
    assert document["warnings"] == ["nested"]
    assert document["fingerprint"] == fingerprint(CATALOG)


def test_the_fingerprint_sees_content_label_and_path_and_nothing_else() -> None:
    one, two = photo("glass/a.jpg", "01"), photo("paper/b.jpg", "02")
    ignored = {"path": "LICENSE", "verdict": "ignored", "reason": "not in a class folder"}
    reference = fingerprint(catalog(one, two))
    assert fingerprint(catalog(two, ignored, one)) == reference
    for change in ({"sha256": "03"}, {"label": "metal"}, {"path": "paper/c.jpg"}, {"verdict": "rejected"}):
        assert fingerprint(catalog(one, {**two, **change})) != reference
