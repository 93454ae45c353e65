"""Folds share the photos out among them, groups whole, and stay as they are when photos are added."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping

import pyarrow as pa
import pytest

from ray_trash.audit.folds import fold_files
from ray_trash.dataset.catalog import CATALOG_SCHEMA
from ray_trash.dataset.groups.relations import Relation
from ray_trash.errors import DataError


def catalog(n: int) -> pa.Table:
    rows = [
        {
            "row": row,
            "path": f"glass/{row:04d},=1+1\r.jpg",
            "label": "glass",
            "sha256": hashlib.sha256(str(row).encode()).hexdigest(),
            "verdict": "accepted",
        }
        for row in range(n)
    ]
    return pa.Table.from_pylist(rows, schema=CATALOG_SCHEMA)


def validated(files: Mapping[str, bytes]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, content in files.items():
        header, *rows = csv.reader(io.StringIO(content.decode(), newline=""), strict=True)
        assert header == ["path", "split"]
        found[name] = [path for path, side in rows if side == "val"]
        assert len(found[name]) + sum(side == "train" for _, side in rows) == len(rows)
    return found


def test_every_photo_is_validated_once() -> None:
    table = catalog(100)
    folds = validated(fold_files(table, [], 4))
    assert list(folds) == ["fold-1.csv", "fold-2.csv", "fold-3.csv", "fold-4.csv"]
    assert sorted(path for paths in folds.values() for path in paths) == table["path"].to_pylist()


def test_a_group_is_in_one_fold() -> None:
    relations = [Relation(row, row + 1, "near") for row in range(9)]
    folds = validated(fold_files(catalog(100), relations, 5))
    tied = set(catalog(10)["path"].to_pylist())
    assert sorted(len(tied.intersection(paths)) for paths in folds.values()) == [0, 0, 0, 0, 10]


def test_adding_photos_of_other_shots_moves_no_photo_to_another_fold() -> None:
    before, after = (validated(fold_files(catalog(n), [], 3)) for n in (60, 90))
    for name, paths in before.items():
        assert set(paths) <= set(after[name])


def test_adding_a_photo_of_a_known_shot_may_move_that_shot_and_nothing_else() -> None:
    before = validated(fold_files(catalog(90), [Relation(0, 1, "near")], 3))
    shot = set(catalog(2)["path"].to_pylist())
    moved = set()
    for added in range(2, 90):
        after = validated(fold_files(catalog(90), [Relation(0, 1, "near"), Relation(1, added, "near")], 3))
        changed = {path for name, paths in before.items() for path in paths if path not in after[name]}
        assert changed <= shot | {catalog(90)["path"][added].as_py()}
        moved |= changed & shot
    assert moved == shot


def test_more_folds_than_photos_is_an_error_that_says_so() -> None:
    with pytest.raises(DataError, match=r"leave fold \d empty"):
        fold_files(catalog(2), [], 9)
