"""The photos that two sides have in common: by content where both know it, else by path."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ray_trash.compare.answers import Answers
from ray_trash.errors import DataError

Truth = Literal["labels", "folders"]


@dataclass(frozen=True)
class Photo:
    """One photo that both sides answered, `path` as the first side has it; `true_label` is None where unknown."""

    path: str
    true_label: str | None
    first: str
    second: str
    first_confidence: float
    second_confidence: float
    first_abstained: bool
    second_abstained: bool


@dataclass(frozen=True)
class Matching:
    """What two sides have in common, sorted by path, and what only one has.

    Attributes:
        by: What photos were matched by.
        truth: Where the true classes come from; None where nothing says them.
        relabelled: Photos that the two sides took for different classes, which are in neither count.
    """

    by: Literal["content", "path"]
    truth: Truth | None
    photos: tuple[Photo, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    relabelled: tuple[str, ...]


def match(first: Answers, second: Answers) -> Matching:
    """Pair the photos of two sides; of several of one content, the first by path with the first, and so on.

    Where neither side has labels, a photo's class is the folder in its path that is named like a class of both sides.

    Raises:
        DataError: They have no photo in common.
    """
    by_content = all("sha256" in side.table.column_names for side in (first, second))
    by: Literal["content", "path"] = "content" if by_content else "path"
    ours, theirs = (_keyed(side.table.to_pylist(), by) for side in (first, second))
    common = [key for key in ours if key in theirs]
    if not common:
        raise DataError(
            f"{first.shown} and {second.shown} have no photo in common, matched by {by}: there is nothing to compare; "
            "evaluate or score the same photos with both"
        )
    has_labels = any("true_label" in side.table.column_names for side in (first, second))
    known = frozenset(first.classes) & frozenset(second.classes)
    photos, relabelled = [], []
    for key in common:
        one, other = ours[key], theirs[key]
        labels = {row["true_label"] for row in (one, other) if "true_label" in row}
        if len(labels) > 1:
            relabelled.append(one["path"])
            continue
        label = next(iter(labels)) if has_labels else _class_in(one["path"], known)
        photos.append(_photo(one, other, label))
    if has_labels:
        truth: Truth | None = "labels"
    else:
        truth = "folders" if photos and all(photo.true_label is not None for photo in photos) else None
    return Matching(
        by,
        truth,
        tuple(sorted(photos, key=lambda photo: photo.path)),
        tuple(sorted(ours[key]["path"] for key in ours if key not in theirs)),
        tuple(sorted(theirs[key]["path"] for key in theirs if key not in ours)),
        tuple(sorted(relabelled)),
    )


def _keyed(rows: Iterable[dict[str, Any]], by: Literal["content", "path"]) -> dict[tuple[str, int], dict[str, Any]]:
    seen: Counter[str] = Counter()
    keyed = {}
    for row in rows:
        name = row["sha256" if by == "content" else "path"]
        keyed[name, seen[name]] = row
        seen[name] += 1
    return keyed


def _class_in(path: str, classes: frozenset[str]) -> str | None:
    folders: Sequence[str] = path.split("/")[:-1]
    return next((folder for folder in folders if folder in classes), None)


def _photo(one: dict[str, Any], other: dict[str, Any], label: str | None) -> Photo:
    return Photo(
        path=one["path"],
        true_label=label,
        first=one["label"],
        second=other["label"],
        first_confidence=one["confidence"],
        second_confidence=other["confidence"],
        first_abstained=one["abstained"],
        second_abstained=other["abstained"],
    )
