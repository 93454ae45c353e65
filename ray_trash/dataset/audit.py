"""What a run says of its photos before it trains on them: `audit.json`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from ray_trash.dataset.catalog import fingerprint


def build_audit(catalog: pa.Table, splits: Sequence[str | None], warnings: Sequence[str]) -> dict[str, Any]:
    """Sum up a catalog and its split.

    Args:
        catalog: Of `build_catalog`.
        splits: Of `assign_splits`.
        warnings: Sentences of the listing and the split.

    Returns:
        `counts`, `rejected`, `ignored`, `exact_duplicates` (groups of paths with equal bytes), `conflicts`
        (groups under more than one label), `splits`, `warnings` and `fingerprint`, as JSON values.
    """
    rows = catalog.to_pylist()
    groups: dict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        if row["verdict"] == "accepted":
            groups[row["sha256"]].append(index)
    copies = sorted((group for group in groups.values() if len(group) > 1), key=lambda group: group[0])
    verdicts = Counter(row["verdict"] for row in rows)
    conflicts = []
    for group in copies:
        labels = [rows[index]["label"] for index in group]
        if len(set(labels)) > 1:
            conflicts.append(
                {"paths": [rows[index]["path"] for index in group], "labels": labels, "kind": "bytes"}
            )
    return {
        "counts": {
            "seen": len(rows),
            **{verdict: verdicts[verdict] for verdict in ("accepted", "rejected", "ignored")},
        },
        "rejected": [_finding(row) for row in rows if row["verdict"] == "rejected"],
        "ignored": [_finding(row) for row in rows if row["verdict"] == "ignored"],
        "exact_duplicates": [[rows[index]["path"] for index in group] for group in copies],
        "conflicts": conflicts,
        "splits": {side: _side(side, rows, splits, copies) for side in ("train", "val", "test")},
        "warnings": list(warnings),
        "fingerprint": fingerprint(catalog),
    }


def _finding(row: dict[str, Any]) -> dict[str, Any]:
    return {"path": row["path"], "reason": row["reason"], "message": row["message"]}


def _side(
    side: str, rows: Sequence[dict[str, Any]], splits: Sequence[str | None], copies: Sequence[Sequence[int]]
) -> dict[str, Any]:
    per_class = Counter(row["label"] for row, own in zip(rows, splits, strict=True) if own == side)
    straddling = sum(
        any(splits[index] == side for index in group) and len({splits[index] for index in group}) > 1
        for group in copies
    )
    return {
        "n": sum(per_class.values()),
        "per_class": dict(sorted(per_class.items())),
        "straddling_groups": straddling,
    }
