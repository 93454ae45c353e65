"""The content of `audit.json`: what is in a data set and what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TypedDict

import pyarrow as pa

from ray_trash.dataset.catalog import SIDES, CatalogRow, Side, fingerprint, on_side, rows_of
from ray_trash.dataset.groups.relations import EXACT, ONE_SHOT, Kind, Relation, connected

SEARCHED = (
    "copies of one picture, up to the eight symmetries, by their pixels; the same shot (re-encoded, cropped, turned, "
    "mirrored, other exposure, neighbours of a burst) by keypoints and fine structure; things known again by a printed "
    "or rigid part, by keypoints; not searched: other poses of things without such a part"
)

Paths = list[str]
"""Relative to the data root; a group of photos."""


class Rejected(TypedDict):
    """A file that cannot be used."""

    path: str
    reason: str | None
    message: str | None


class NearPair(TypedDict):
    """Two photos of the same shot; `agreement` is the correlation of their fine structure."""

    paths: Paths
    splits: list[Side | None]
    shared_points: int | None
    agreement: float | None
    mirrored: bool


class Conflict(TypedDict):
    """A group of photos that are the same, under two labels or more."""

    paths: Paths
    labels: list[str]
    kind: Kind


class SideSummary(TypedDict):
    """One side of the split, with the groups of copies and same shots that are on another side too."""

    n: int
    per_class: dict[str, int]
    straddling_groups: list[Paths]
    twins_in_train: int
    fingerprint: str


class ProbeResult(TypedDict):
    """What a classifier gets that looks at one thing; `majority` is the share of the largest class among the scored.

    `scored_on` is `val`, or `folds` of the training photos where val is small.
    """

    what: str
    n: int
    correct: int
    accuracy: float
    accuracy_ci95: list[float]
    majority: float
    scored_on: str
    flagged: bool
    verdict: str


class Suspect(TypedDict):
    """A photo whose label is doubtful; `score` is the probability of `suggested`."""

    path: str
    label: str
    suggested: str
    score: float
    reason: str


class Outlier(TypedDict):
    """A photo that stands out; `kind` is `blurred`, `near_empty`, `dark`, `bright` or `odd_shape`."""

    path: str
    kind: str
    value: float


class Balance(TypedDict):
    """Photos of each class, and what is done about their sizes."""

    per_class: dict[str, int]
    largest_over_smallest: float | None
    handled_by: str


class AuditDocument(TypedDict):
    """`audit.json`.

    `counts`: `seen` is the sum of the others. `exact_duplicates`: equal bytes, or pixels up to the eight symmetries.
    `near_duplicates`: groups tied by the same shot, exact copies in them included. `same_object`: groups tied by a part
    that is known again, same shots in them included. `uncompared`: photos with too few keypoints to be compared.
    """

    counts: dict[str, int]
    rejected: list[Rejected]
    exact_duplicates: list[Paths]
    near_duplicates: list[Paths]
    same_object: list[Paths]
    near_pairs: list[NearPair]
    searched: str
    uncompared: int
    conflicts: list[Conflict]
    splits: dict[str, SideSummary]
    probes: dict[str, ProbeResult]
    suspects: list[Suspect]
    outliers: list[Outlier]
    balance: Balance
    warnings: list[str]
    fingerprint: str


def build_audit(
    catalog: pa.Table,
    relations: Sequence[Relation],
    *,
    warnings: Sequence[str] = (),
    uncompared: int = 0,
    probes: dict[str, ProbeResult] | None = None,
    suspects: Sequence[Suspect] = (),
    outliers: Sequence[Outlier] = (),
    balance: str = "",
) -> AuditDocument:
    """Sum up a data set.

    Args:
        catalog: With the column `split`.
        relations: Which photos belong together.
        warnings: What the listing and the split had to say.
        uncompared: Photos with too few keypoints.
        probes: As `run_probes` gives them.
        suspects: As `find_suspects` gives them; those in a conflict are named for that.
        outliers: As `find_outliers` gives them.
        balance: What the configuration does about classes of different sizes, in words.
    """
    rows = rows_of(catalog)
    verdicts = Counter(row.verdict for row in rows)
    per_class = Counter(str(row.label) for row in rows if row.accepted)
    groups = connected(relation for relation in relations if relation.kind in ONE_SHOT)
    conflicts = list(_conflicts(rows, relations))
    doubted = list(_suspects_of_conflicts(conflicts, rows))
    named = {suspect["path"] for suspect in doubted}
    return {
        "counts": {
            "seen": len(rows),
            "accepted": verdicts["accepted"],
            "rejected": verdicts["rejected"],
            "ignored": verdicts["ignored"],
        },
        "rejected": [
            {"path": row.path, "reason": row.reason, "message": row.message}
            for row in rows
            if row.verdict == "rejected"
        ],
        "exact_duplicates": [_paths(rows, group) for group in connected(r for r in relations if r.kind in EXACT)],
        "near_duplicates": [_paths(rows, group) for group in _tied_by("near", groups, relations)],
        "same_object": [_paths(rows, group) for group in _tied_by("object", connected(relations), relations)],
        "near_pairs": [_near_pair(rows, relation) for relation in relations if relation.kind == "near"],
        "searched": SEARCHED,
        "uncompared": uncompared,
        "conflicts": conflicts,
        "splits": {side: _describe_side(side, catalog, rows, groups) for side in SIDES},
        "probes": probes or {},
        "suspects": [*doubted, *(suspect for suspect in suspects if suspect["path"] not in named)],
        "outliers": list(outliers),
        "balance": {
            "per_class": dict(sorted(per_class.items())),
            "largest_over_smallest": (
                round(max(per_class.values()) / min(per_class.values()), 2) if per_class else None
            ),
            "handled_by": balance,
        },
        "warnings": list(warnings),
        "fingerprint": fingerprint(catalog),
    }


def _tied_by(kind: Kind, groups: Sequence[list[int]], relations: Sequence[Relation]) -> Iterator[list[int]]:
    tied = {row for relation in relations if relation.kind == kind for row in (relation.first, relation.second)}
    return (group for group in groups if not tied.isdisjoint(group))


def _conflicts(rows: Sequence[CatalogRow], relations: Sequence[Relation]) -> Iterator[Conflict]:
    # From the surest kind on; what a surer kind has said is not said again.
    reported: list[set[int]] = []
    for position, kind in enumerate(ONE_SHOT):
        if kind == "near":
            groups = [[relation.first, relation.second] for relation in relations if relation.kind == "near"]
        else:
            groups = connected(relation for relation in relations if relation.kind in EXACT[: position + 1])
        for group in groups:
            labels = {str(rows[row].label) for row in group}
            if len(labels) > 1 and not any(known.issuperset(group) for known in reported):
                reported.append(set(group))
                yield {"paths": _paths(rows, group), "labels": sorted(labels), "kind": kind}


def _suspects_of_conflicts(conflicts: Sequence[Conflict], rows: Sequence[CatalogRow]) -> Iterator[Suspect]:
    label_of = {row.path: str(row.label) for row in rows}
    for conflict in conflicts:
        same = "the same shot as" if conflict["kind"] == "near" else "the same picture as"
        for path in conflict["paths"]:
            twin = next(other for other in conflict["paths"] if label_of[other] != label_of[path])
            yield {
                "path": path,
                "label": label_of[path],
                "suggested": label_of[twin],
                "score": 1.0,
                "reason": f"{same} {twin}, which is labelled {label_of[twin]}",
            }


def _near_pair(rows: Sequence[CatalogRow], relation: Relation) -> NearPair:
    pair = [relation.first, relation.second]
    return {
        "paths": _paths(rows, pair),
        "splits": [rows[row].split for row in pair],
        "shared_points": relation.shared_points,
        "agreement": None if relation.agreement is None else round(relation.agreement, 3),
        "mirrored": relation.mirrored,
    }


def _describe_side(
    side: Side, catalog: pa.Table, rows: Sequence[CatalogRow], groups: Sequence[Sequence[int]]
) -> SideSummary:
    here = Counter(row.label for row in rows if row.split == side)
    sides_of = [{rows[row].split for row in group} - {None} for group in groups]
    straddling = [group for group, sides in zip(groups, sides_of, strict=True) if side in sides and len(sides) > 1]
    twins = [row for group in straddling if any(rows[row].split == "train" for row in group) for row in group]
    return {
        "n": here.total(),
        "per_class": {label: here[label] for label in sorted({str(row.label) for row in rows if row.accepted})},
        "straddling_groups": [_paths(rows, group) for group in straddling],
        "twins_in_train": 0 if side == "train" else sum(rows[row].split == side for row in twins),
        "fingerprint": fingerprint(on_side(catalog, side)),
    }


def _paths(rows: Sequence[CatalogRow], group: Sequence[int]) -> Paths:
    return [rows[row].path for row in group]
