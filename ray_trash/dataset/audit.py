"""What is in a data set and what is wrong with it, as the content of `audit.json`.

A catalog and its split go in, JSON values come out. Reads no file.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from ray_trash.dataset.catalog import fingerprint
from ray_trash.dataset.official import SIDES, Side


def build_audit(catalog: pa.Table, splits: Sequence[Side | None], warnings: Sequence[str]) -> dict[str, Any]:
    """Sum up a catalog.

    Args:
        catalog: As `build_catalog` gives it.
        splits: The side of each row, as `assign_splits` gives it.
        warnings: What the listing and the split had to say.

    Returns:
        `counts` (`seen` is the sum of `accepted`, `rejected` and `ignored`); `rejected`, by path;
        `exact_duplicates`, groups of paths with equal bytes; `conflicts`, those with more than one
        label; `splits`, by side, with the groups of duplicates that are on another side too;
        `warnings`; `fingerprint`. Among accepted photos only, but for the counts and `rejected`.
    """
    rows = catalog.to_pylist()
    verdicts = Counter(row["verdict"] for row in rows)
    accepted = [row | {"side": side} for row, side in zip(rows, splits, strict=True) if row["verdict"] == "accepted"]
    groups = _equal_groups(accepted)
    return {
        "counts": {
            "seen": len(rows),
            **{name: verdicts[name] for name in ("accepted", "rejected", "ignored")},
        },
        "rejected": [
            {name: row[name] for name in ("path", "reason", "message")} for row in rows if row["verdict"] == "rejected"
        ],
        "exact_duplicates": [_paths(group) for group in groups],
        "conflicts": [
            {"paths": _paths(group), "labels": labels, "kind": "bytes"}
            for group in groups
            if len(labels := sorted({row["label"] for row in group})) > 1
        ],
        "splits": {side: _describe_side(side, accepted, groups) for side in SIDES},
        "warnings": list(warnings),
        "fingerprint": fingerprint(catalog),
    }


def _equal_groups(photos: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    by_content = defaultdict(list)
    for photo in photos:
        by_content[photo["sha256"]].append(photo)
    return [group for group in by_content.values() if len(group) > 1]


def _describe_side(
    side: Side,
    photos: Sequence[Mapping[str, Any]],
    groups: Sequence[Sequence[Mapping[str, Any]]],
) -> dict[str, Any]:
    here = Counter(photo["label"] for photo in photos if photo["side"] == side)
    straddling = [
        _paths(group)
        for group in groups
        if side in (sides := {photo["side"] for photo in group} - {None}) and len(sides) > 1
    ]
    labels = sorted({photo["label"] for photo in photos})
    return {
        "n": here.total(),
        "per_class": {label: here[label] for label in labels},
        "straddling_groups": straddling,
    }


def _paths(group: Sequence[Mapping[str, Any]]) -> list[str]:
    return [photo["path"] for photo in group]
