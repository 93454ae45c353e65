"""Catalogues without photos, and the sides that a rule gives them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import pyarrow as pa

from ray_trash.dataset.catalog import CATALOG_SCHEMA
from ray_trash.dataset.columns import table_of
from ray_trash.dataset.listing import LISTING_SCHEMA, Listing
from ray_trash.dataset.split import SplitRule, assign_splits


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def catalog(paths: Iterable[str], contents: dict[str, str] | None = None, rejected: Sequence[str] = ()) -> pa.Table:
    rows = [
        {
            "row": row,
            "path": path,
            "label": path.split("/")[-2],
            "sha256": sha256((contents or {}).get(path, path)),
            "verdict": "rejected" if path in rejected else "accepted",
        }
        for row, path in enumerate(sorted(paths))
    ]
    return pa.Table.from_pylist(rows, schema=CATALOG_SCHEMA)


def assign(table: pa.Table, rule: SplitRule, root: str = "/nowhere") -> tuple[dict[str, str | None], list[str]]:
    sides, warnings = assign_splits(table, rule, root)
    return dict(zip(table["path"].to_pylist(), sides.to_pylist(), strict=True)), warnings


def listing_of(*paths: str) -> Listing:
    return Listing("/data/photos", (), table_of({"path": pa.array(sorted(paths), pa.string())}, LISTING_SCHEMA), ())


def many(label: str, n: int, start: int = 0) -> list[str]:
    return [f"{label}/{number}.jpg" for number in range(start, start + n)]
