"""The audit's numbers add up, and duplicates are found wherever they lie."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from ray_trash.dataset.audit import build_audit
from ray_trash.dataset.catalog import CATALOG_SCHEMA, fingerprint
from ray_trash.dataset.official import Side


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
SIDES: list[Side | None] = ["train", "val", None, "train", "train", "test", None, None]


def test_counts_add_up_to_all_rows() -> None:
    assert build_audit(CATALOG, SIDES, [])["counts"] == {"seen": 8, "accepted": 6, "rejected": 1, "ignored": 1}


def test_rejected_photos_are_named_with_their_reason() -> None:
    assert build_audit(CATALOG, SIDES, [])["rejected"] == [
        {"path": "glass/bad.jpg", "reason": "truncated", "message": "ends early"}
    ]


def test_equal_bytes_are_grouped_and_two_labels_are_a_conflict() -> None:
    audit = build_audit(CATALOG, SIDES, [])
    assert audit["exact_duplicates"] == [
        ["glass/a.jpg", "glass/b.jpg"],
        ["glass/c.jpg", "paper/a.jpg"],
        ["paper/b.jpg", "paper/c.jpg"],
    ]
    assert audit["conflicts"] == [
        {"paths": ["glass/c.jpg", "paper/a.jpg"], "labels": ["glass", "paper"], "kind": "bytes"}
    ]


def test_sides_count_their_photos_and_name_the_groups_that_straddle() -> None:
    splits = build_audit(CATALOG, SIDES, [])["splits"]
    straddling = [["glass/a.jpg", "glass/b.jpg"]]
    assert splits == {
        "train": {"n": 3, "per_class": {"glass": 2, "paper": 1}, "straddling_groups": straddling},
        "val": {"n": 1, "per_class": {"glass": 1, "paper": 0}, "straddling_groups": straddling},
        "test": {"n": 1, "per_class": {"glass": 0, "paper": 1}, "straddling_groups": []},
    }


def test_the_audit_is_plain_json_with_warnings_and_fingerprint() -> None:
    audit = build_audit(CATALOG, SIDES, ["nested"])
    assert json.loads(json.dumps(audit)) == audit
    assert audit["warnings"] == ["nested"]
    assert audit["fingerprint"] == fingerprint(CATALOG)


def test_the_fingerprint_sees_content_label_and_path_and_nothing_else() -> None:
    one, two = photo("glass/a.jpg", "01"), photo("paper/b.jpg", "02")
    ignored = {"path": "LICENSE", "verdict": "ignored", "reason": "not in a class folder"}
    reference = fingerprint(catalog(one, two))
    assert fingerprint(catalog(two, ignored, one)) == reference
    for change in ({"sha256": "03"}, {"label": "metal"}, {"path": "paper/c.jpg"}, {"verdict": "rejected"}):
        assert fingerprint(catalog(one, {**two, **change})) != reference
