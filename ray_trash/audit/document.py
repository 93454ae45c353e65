"""The content of `audit.json`: what is in a data set and what is wrong with it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, TypedDict

import pyarrow as pa
import pyarrow.compute as pc

from ray_trash.dataset.catalog import SIDES, Side, accepted_photos, fingerprint, on_side
from ray_trash.dataset.columns import rows_in
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
    photos = _Photos(catalog)
    verdicts = Counter(catalog["verdict"].to_pylist())
    per_class = _counts(accepted_photos(catalog)["label"])
    groups = connected(relation for relation in relations if relation.kind in ONE_SHOT)
    conflicts = list(_find_conflicts(photos, relations))
    doubted = list(_suspects_of_conflicts(photos, conflicts))
    named = {suspect["path"] for suspect in doubted}
    rejected = catalog.filter(pc.equal(catalog["verdict"], "rejected"))
    return {
        "counts": {
            "seen": len(catalog),
            "accepted": verdicts["accepted"],
            "rejected": verdicts["rejected"],
            "ignored": verdicts["ignored"],
        },
        "rejected": [
            {"path": path, "reason": reason, "message": message}
            for path, reason, message in rows_in(rejected, "path", "reason", "message")
        ],
        "exact_duplicates": [photos.paths(group) for group in connected(r for r in relations if r.kind in EXACT)],
        "near_duplicates": [photos.paths(group) for group in _tied_by("near", groups, relations)],
        "same_object": [photos.paths(group) for group in _tied_by("object", connected(relations), relations)],
        "near_pairs": [_near_pair(photos, relation) for relation in relations if relation.kind == "near"],
        "searched": SEARCHED,
        "uncompared": uncompared,
        "conflicts": [
            {"paths": photos.paths(group), "labels": sorted(set(photos.labels(group))), "kind": kind}
            for kind, group in conflicts
        ],
        "splits": {side: _describe_side(side, catalog, photos, groups, sorted(per_class)) for side in SIDES},
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


class _Photos:
    """The rows of a catalog that are named, by their numbers: few of them, and each some of the columns."""

    def __init__(self, catalog: pa.Table) -> None:
        self._columns = {name: catalog[name].combine_chunks() for name in ("path", "label", "split")}

    def paths(self, group: Sequence[int]) -> Paths:
        return self._values("path", group)

    def labels(self, group: Sequence[int]) -> list[str]:
        return self._values("label", group)

    def sides(self, group: Sequence[int]) -> list[Side | None]:
        return self._values("split", group)

    def _values(self, name: str, group: Sequence[int]) -> list[Any]:
        column = self._columns[name]
        return [column[row].as_py() for row in group]


def _counts(column: pa.ChunkedArray) -> Counter[str]:
    return Counter({entry["values"]: entry["counts"] for entry in pc.value_counts(column).to_pylist()})


def _tied_by(kind: Kind, groups: Sequence[list[int]], relations: Sequence[Relation]) -> Iterator[list[int]]:
    tied = {row for relation in relations if relation.kind == kind for row in (relation.first, relation.second)}
    return (group for group in groups if not tied.isdisjoint(group))


def _find_conflicts(photos: _Photos, relations: Sequence[Relation]) -> Iterator[tuple[Kind, list[int]]]:
    # From the surest kind on; what a surer kind has said is not said again.
    reported: defaultdict[int, list[set[int]]] = defaultdict(list)
    for position, kind in enumerate(ONE_SHOT):
        if kind == "near":
            groups = [[relation.first, relation.second] for relation in relations if relation.kind == "near"]
        else:
            groups = connected(relation for relation in relations if relation.kind in EXACT[: position + 1])
        for group in groups:
            if len(set(photos.labels(group))) > 1 and not any(known.issuperset(group) for known in reported[group[0]]):
                members = set(group)
                for row in group:
                    reported[row].append(members)
                yield kind, group


def _suspects_of_conflicts(photos: _Photos, conflicts: Sequence[tuple[Kind, list[int]]]) -> Iterator[Suspect]:
    for kind, group in conflicts:
        same = "the same shot as" if kind == "near" else "the same picture as"
        named = list(zip(photos.paths(group), photos.labels(group), strict=True))
        for path, label in named:
            twin, other = next((path, other) for path, other in named if other != label)
            yield {
                "path": path,
                "label": label,
                "suggested": other,
                "score": 1.0,
                "reason": f"{same} {twin}, which is labelled {other}",
            }


def _near_pair(photos: _Photos, relation: Relation) -> NearPair:
    pair = [relation.first, relation.second]
    return {
        "paths": photos.paths(pair),
        "splits": photos.sides(pair),
        "shared_points": relation.shared_points,
        "agreement": None if relation.agreement is None else round(relation.agreement, 3),
        "mirrored": relation.mirrored,
    }


def _describe_side(
    side: Side, catalog: pa.Table, photos: _Photos, groups: Sequence[Sequence[int]], labels: Sequence[str]
) -> SideSummary:
    here = on_side(catalog, side)
    per_class = _counts(here["label"])
    sides_of = [photos.sides(group) for group in groups]
    straddling = [
        (group, sides)
        for group, sides in zip(groups, sides_of, strict=True)
        if side in sides and len(set(sides) - {None}) > 1
    ]
    twins = sum(sides.count(side) for _, sides in straddling if "train" in sides)
    return {
        "n": len(here),
        "per_class": {label: per_class[label] for label in labels},
        "straddling_groups": [photos.paths(group) for group, _ in straddling],
        "twins_in_train": 0 if side == "train" else twins,
        "fingerprint": fingerprint(here),
    }
