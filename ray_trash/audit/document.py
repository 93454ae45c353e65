"""The content of `audit.json`: what is in a data set and what is wrong with it.

A catalog, its split and what was found about it go in, JSON values come out. Reads no file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from ray_trash.dataset.catalog import fingerprint
from ray_trash.dataset.groups.relations import EXACT, ONE_SHOT, Relation, connected
from ray_trash.dataset.official import SIDES, Side

SEARCHED = (
    "copies of one picture, up to the eight symmetries, by their pixels; the same shot (re-encoded, cropped, turned, "
    "mirrored, other exposure, neighbours of a burst) by keypoints and fine structure; things known again by a printed "
    "or rigid part, by keypoints"
)


@dataclass(frozen=True)
class Findings:
    """What was found about the photos, beside what the catalog says.

    Attributes:
        relations: Which photos belong together.
        uncompared: Photos with too few keypoints to be compared.
        probes: As `run_probes` gives them.
        suspects: As `find_suspects` gives them.
        outliers: As `find_outliers` gives them.
        balance: What the configuration does about classes of different sizes, in words.
        searched: Which kinds of duplicates were looked for, in words.
    """

    relations: Sequence[Relation] = ()
    uncompared: int = 0
    probes: Mapping[str, Any] = field(default_factory=dict)
    suspects: Sequence[Mapping[str, Any]] = ()
    outliers: Sequence[Mapping[str, Any]] = ()
    balance: str = ""
    searched: str = SEARCHED


def build_audit(
    catalog: pa.Table, splits: Sequence[Side | None], warnings: Sequence[str], findings: Findings
) -> dict[str, Any]:
    """Sum up a data set.

    Args:
        catalog: As `build_catalog` gives it.
        splits: The side of each row, as `assign_splits` gives it.
        warnings: What the listing and the split had to say.
        findings: What was found about the photos.

    Returns:
        The contract's keys: `counts` (`seen` is the sum of the others), `rejected`, `exact_duplicates` (equal
        bytes, or pixels up to the eight symmetries), `near_duplicates` (groups tied together by the same shot,
        exact copies in them included), `conflicts`, `splits` by side with the groups of copies and same shots that are
        on another side too, `probes`, `suspects`, `fingerprint`. And `same_object` (groups tied together by a part
        that is known again, same shots in them included), `near_pairs`, `searched`, `uncompared`, `outliers`,
        `balance`, `warnings`.
    """
    rows = catalog.to_pylist()
    verdicts = Counter(row["verdict"] for row in rows)
    near = [relation for relation in findings.relations if relation.kind == "near"]
    near_rows = {row for relation in near for row in (relation.first, relation.second)}
    things = [relation for relation in findings.relations if relation.kind == "object"]
    thing_rows = {row for relation in things for row in (relation.first, relation.second)}
    groups = connected(relation for relation in findings.relations if relation.kind in ONE_SHOT)
    counts = Counter(row["label"] for row in rows if row["verdict"] == "accepted")
    return {
        "counts": {"seen": len(rows), **{name: verdicts[name] for name in ("accepted", "rejected", "ignored")}},
        "rejected": [
            {name: row[name] for name in ("path", "reason", "message")} for row in rows if row["verdict"] == "rejected"
        ],
        "exact_duplicates": [
            _paths(rows, group) for group in connected(r for r in findings.relations if r.kind in EXACT)
        ],
        "near_duplicates": [_paths(rows, group) for group in groups if not near_rows.isdisjoint(group)],
        "same_object": [
            _paths(rows, group) for group in connected(findings.relations) if not thing_rows.isdisjoint(group)
        ],
        "near_pairs": [_near_pair(rows, splits, relation) for relation in near],
        "searched": findings.searched,
        "uncompared": findings.uncompared,
        "conflicts": list(_conflicts(rows, findings.relations)),
        "splits": {side: _describe_side(side, catalog, rows, splits, groups) for side in SIDES},
        "probes": dict(findings.probes),
        "suspects": list(findings.suspects),
        "outliers": list(findings.outliers),
        "balance": {
            "per_class": dict(sorted(counts.items())),
            "largest_over_smallest": round(max(counts.values()) / min(counts.values()), 2) if counts else None,
            "handled_by": findings.balance,
        },
        "warnings": list(warnings),
        "fingerprint": fingerprint(catalog),
    }


def _conflicts(rows: Sequence[Mapping[str, Any]], relations: Sequence[Relation]) -> Iterator[dict[str, Any]]:
    # From the surest kind on; what a surer kind has said is not said again.
    reported: set[frozenset[str]] = set()
    for position, kind in enumerate((*EXACT, "near")):
        kinds = (*EXACT, "near")[: position + 1] if kind in EXACT else ("near",)
        tied = [relation for relation in relations if relation.kind in kinds]
        groups = connected(tied) if kind in EXACT else [[relation.first, relation.second] for relation in tied]
        for group in groups:
            labels = [rows[row]["label"] for row in group]
            paths = _paths(rows, group)
            if len(set(labels)) > 1 and not any(set(paths) <= known for known in reported):
                reported.add(frozenset(paths))
                yield {"paths": paths, "labels": sorted(set(labels)), "kind": kind, "path_labels": labels}


def _near_pair(rows: Sequence[Mapping[str, Any]], splits: Sequence[Side | None], relation: Relation) -> dict[str, Any]:
    pair = (relation.first, relation.second)
    return {
        "paths": _paths(rows, pair),
        "splits": [splits[row] for row in pair],
        "shared_points": relation.shared_points,
        "agreement": None if relation.agreement is None else round(relation.agreement, 3),
        "mirrored": relation.mirrored,
    }


def _describe_side(
    side: Side,
    catalog: pa.Table,
    rows: Sequence[Mapping[str, Any]],
    splits: Sequence[Side | None],
    groups: Sequence[Sequence[int]],
) -> dict[str, Any]:
    here = Counter(row["label"] for row, its in zip(rows, splits, strict=True) if its == side)
    labels = sorted({row["label"] for row in rows if row["verdict"] == "accepted"})
    straddling = [
        group for group in groups if side in (sides := {splits[row] for row in group} - {None}) and len(sides) > 1
    ]
    twins = [row for group in straddling if any(splits[row] == "train" for row in group) for row in group]
    return {
        "n": here.total(),
        "per_class": {label: here[label] for label in labels},
        "straddling_groups": [_paths(rows, group) for group in straddling],
        "twins_in_train": 0 if side == "train" else sum(splits[row] == side for row in twins),
        "fingerprint": fingerprint(catalog.filter(pa.array([its == side for its in splits], pa.bool_()))),
    }


def _paths(rows: Sequence[Mapping[str, Any]], group: Sequence[int]) -> list[str]:
    return [rows[row]["path"] for row in group]
