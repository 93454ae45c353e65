"""`audit.png`: the worst findings side by side, for a person to judge."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from ray_trash.audit.document import AuditDocument
from ray_trash.dataset.read import PhotoFolder
from ray_trash.errors import DataError
from ray_trash.image.contact_sheet import contact_sheet
from ray_trash.image.preprocess import Preprocessing

_THUMBNAIL = Preprocessing(size_px=128, stored_short_side_px=128, fit="stretch")
_PAIRS = 24
_SUSPECTS, _OUTLIERS = 12, 7
_PER_ROW = 7


def audit_sheet(document: AuditDocument, root: str) -> bytes:
    """Draw conflicts, pairs across the split, other near pairs, suspects and outliers, in this order.

    Args:
        document: The content of `audit.json`.
        root: The data root.

    Returns:
        A PNG file. A photo that has gone since is left out.
    """
    folder = PhotoFolder.at(root)
    return contact_sheet(
        [(title, list(_photos(folder, paths))) for title, paths in _rows(document)]
        or [("nothing to show: no conflicts, no duplicates, no suspects, no outliers", [])]
    )


def _rows(document: AuditDocument) -> Iterator[tuple[str, Sequence[str]]]:
    for conflict in document["conflicts"][:_PAIRS]:
        yield f"conflict ({conflict['kind']}): {' = '.join(conflict['paths'])}", conflict["paths"][:_PER_ROW]
    pairs = document["near_pairs"]
    across = [pair for pair in pairs if len({side for side in pair["splits"] if side}) > 1]
    for what, chosen in (("across the split", across), ("near", [pair for pair in pairs if pair not in across])):
        # The least sure first: those are the ones to look at.
        for pair in sorted(chosen, key=lambda pair: pair["agreement"] or 0.0)[:_PAIRS]:
            sides = "/".join(side or "none" for side in pair["splits"])
            title = f"{what} ({sides}, {pair['shared_points']} points, agreement {pair['agreement'] or 0.0:.2f}): "
            yield title + " ~ ".join(pair["paths"]), pair["paths"]
    for suspect in document["suspects"][:_SUSPECTS]:
        yield f"suspect: {suspect['path']}: {suspect['reason']}", [suspect["path"]]
    for kind in dict.fromkeys(outlier["kind"] for outlier in document["outliers"]):
        found = [outlier["path"] for outlier in document["outliers"] if outlier["kind"] == kind]
        yield f"{kind}: {len(found)}, such as {', '.join(found[:_OUTLIERS])}", found[:_OUTLIERS]


def _photos(folder: PhotoFolder, paths: Sequence[str]) -> Iterator[NDArray[np.uint8]]:
    for path in paths:
        with suppress(DataError):
            yield folder.load(path, _THUMBNAIL)
