"""The photos of a report: the worst of the audit, those a model is most wrong about and what it looked at."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from ray_trash.dataset.read import PhotoFolder
from ray_trash.dataset.thumbnail import picture_uri, thumbnail_uri
from ray_trash.errors import CheckpointError, DataError
from ray_trash.image.heat import heat_picture
from ray_trash.image.preprocess import fit_photo
from ray_trash.model.checkpoint import Checkpoint

MOST_WRONG, LEAST_SURE = 12, 12
"""Photos shown of each."""
MAPS_S = 8.0
"""How long maps are drawn, at most; the photos that are left are shown without."""
_CONFLICTS, _PAIRS, _SUSPECTS, _OUTLIERS = 6, 6, 6, 8
_SHEET_HEIGHT_PX = 1792
"""Twelve rows of a contact sheet."""

Shown = dict[str, Any]
"""`picture` is a `data:` URI or "", `words` what stands below it, `path` which photo it is."""


def worst_of_audit(audit: Mapping[str, Any], photos: PhotoFolder | None) -> list[tuple[str, list[Shown]]]:
    """Return what is most doubtful, by kind: a title and photos each."""
    across = [pair for pair in audit["near_pairs"] if len({side for side in pair["splits"] if side}) > 1]
    named = {path for conflict in audit["conflicts"] for path in conflict["paths"]}
    suspects = [one for one in audit["suspects"] if one["path"] not in named]
    groups = (
        ("The same photo under different labels", list(_of_conflicts(audit["conflicts"][:_CONFLICTS]))),
        ("The same shot on two sides of the split", list(_of_pairs(across[:_PAIRS]))),
        ("Labels that are doubtful", [(one["path"], _suspect(one)) for one in suspects[:_SUSPECTS]]),
        ("Photos that stand out", list(_of_outliers(audit["outliers"]))),
    )
    return [(title, [_shown(photos, path, words) for path, words in found]) for title, found in groups if found]


def _of_conflicts(conflicts: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    for conflict in conflicts:
        for path in conflict["paths"][:2]:
            yield path, f"the same as another, labelled {' and '.join(conflict['labels'])}"


def _of_pairs(pairs: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    for pair in pairs:
        for path, side in zip(pair["paths"], pair["splits"], strict=True):
            yield path, f"in {side or 'no side'}, the same shot as the other"


def _of_outliers(outliers: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    # Some of every kind: a set may have hundreds of one.
    kinds = dict.fromkeys(outlier["kind"] for outlier in outliers)
    each = max(1, _OUTLIERS // max(1, len(kinds)))
    for kind in kinds:
        for outlier in [one for one in outliers if one["kind"] == kind][:each]:
            yield outlier["path"], kind.replace("_", " ")


def _suspect(suspect: Mapping[str, Any]) -> str:
    return f"labelled {suspect['label']}: {suspect['reason']}"


def most_wrong(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the wrong answers of predictions, the surest first."""
    wrong = [row for row in rows if row["true_label"] != row["label"]]
    return sorted(wrong, key=lambda row: (-row["confidence"], row["path"]))[:MOST_WRONG]


def least_sure(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the answers of the lowest confidence, right or wrong."""
    return sorted(rows, key=lambda row: (row["confidence"], row["path"]))[:LEAST_SURE]


def answered(rows: Sequence[Mapping[str, Any]], photos: PhotoFolder | None) -> list[Shown]:
    """Show photos with what was said of them."""
    return [_shown(photos, row["path"], said_of(row), sha256=row.get("sha256")) for row in rows]


def looked_at(
    rows: Sequence[Mapping[str, Any]],
    photos: PhotoFolder | None,
    checkpoint: Checkpoint | None,
    *,
    views: int | None = None,
) -> list[Shown]:
    """Show photos as the network sees them, and beside each which part of it speaks for the answer, where it can be.

    The answers are over so many views; by default, as many as the checkpoint says.

    A photo whose map there is no time for, whose content has changed, or whose checkpoint cannot be used is shown
    without.
    """
    shown = answered(rows, photos)
    if photos is None or checkpoint is None or not any(one["picture"] for one in shown):
        return shown
    from ray_trash.model.explainer import Explainer

    try:
        explainer = Explainer(checkpoint, views=views)
    except CheckpointError:
        return shown
    deadline_s = time.monotonic() + MAPS_S
    document = checkpoint.document
    preprocessing = document.preprocessing
    for row, one in zip(rows, shown, strict=True):
        if not one["picture"] or time.monotonic() > deadline_s:
            continue
        try:
            stored = photos.load(row["path"], preprocessing, sha256=row.get("sha256"))
        except DataError:
            continue
        square = fit_photo(stored, preprocessing)
        label = document.classes.index(row["label"])
        drawn = Image.open(io.BytesIO(heat_picture(square, explainer.heat(square, label))))
        one |= {"picture": picture_uri(np.asarray(drawn)), "has_map": True}
    return shown


def said_of(row: Mapping[str, Any]) -> str:
    """Say an answer in words."""
    sure = f"{100 * row['confidence']:.1f} %"
    unsure = ', below the threshold: "not sure"' if row["abstained"] else ""
    if row["true_label"] == row["label"]:
        return f"rightly {row['label']}, {sure}{unsure}"
    return f"is {row['true_label']}; said {row['label']}, {sure}{unsure}"


def sheet_uri(png: bytes) -> tuple[str, bool]:
    """Return a contact sheet as a `data:` URI, smaller than it is, and whether it was cut at the bottom."""
    sheet = Image.open(io.BytesIO(png)).convert("RGB")
    cut = sheet.height > _SHEET_HEIGHT_PX
    if cut:
        sheet = sheet.crop((0, 0, sheet.width, _SHEET_HEIGHT_PX))
    return picture_uri(np.asarray(sheet)), cut


def _shown(photos: PhotoFolder | None, path: str, words: str, *, sha256: str | None = None) -> Shown:
    picture = "" if photos is None else thumbnail_uri(photos, path, sha256=sha256)
    return {"path": path, "words": words, "picture": picture, "has_map": False}
