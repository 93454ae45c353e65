"""Grouped cross-validation: every photo validated once, photos of the same shot always together."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

import pyarrow as pa

from ray_trash.dataset.catalog import accepted_photos
from ray_trash.dataset.groups.relations import Relation, anchors_of, connected
from ray_trash.dataset.split import place_of
from ray_trash.errors import DataError


def fold_files(catalog: pa.Table, relations: Sequence[Relation], n_folds: int) -> Mapping[str, bytes]:
    """Make a split file for each fold.

    A group's fold follows from its smallest hash: adding photos of other shots moves no photo, and adding one of a
    known shot may move that shot.

    Args:
        catalog: With accepted photos.
        relations: Which photos belong together.
        n_folds: At least 2.

    Returns:
        `fold-1.csv` and so on: lines `path,split`, as `data.split` takes them; the fold is `val`, the rest `train`.

    Raises:
        DataError: A fold is empty.
    """
    accepted = accepted_photos(catalog)
    anchors = anchors_of(connected(relations), catalog["sha256"])
    folds = [int(place_of(anchors.get(sha256, sha256)) * n_folds) for sha256 in accepted["sha256"].to_pylist()]
    empty = [fold + 1 for fold in range(n_folds) if fold not in folds]
    if empty:
        raise DataError(f"--folds {n_folds}: {len(folds)} photos leave fold {empty[0]} empty; use fewer folds")
    return {
        f"fold-{fold + 1}.csv": _render(accepted["path"].to_pylist(), [own == fold for own in folds])
        for fold in range(n_folds)
    }


def _render(paths: Sequence[str], in_val: Sequence[bool]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text)  # ends lines by CR LF, so that a name with either is quoted
    writer.writerow(["path", "split"])
    writer.writerows((path, "val" if val else "train") for path, val in zip(paths, in_val, strict=True))
    return text.getvalue().encode()
