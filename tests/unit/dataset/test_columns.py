"""Rows become columns and come back, whatever fits into a block; a million of them are never objects at once."""

from __future__ import annotations

import tracemalloc

import pyarrow as pa
import pytest

from ray_trash.dataset import columns
from ray_trash.dataset.columns import rows_in, table_of, table_of_rows

SCHEMA = pa.schema([pa.field("path", pa.string()), pa.field("size_bytes", pa.int64())])


@pytest.mark.parametrize("n", [0, 1, 3, 4, 9])
def test_rows_come_back_as_they_were(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "_AT_ONCE", 4)
    rows = [(f"{number}.jpg", number if number % 3 else None) for number in range(n)]
    table = table_of_rows(iter(rows), SCHEMA)
    assert table.schema == SCHEMA
    assert list(rows_in(table, "path", "size_bytes")) == rows
    assert [name for (name,) in rows_in(table, "path")] == [name for name, _ in rows]


def test_columns_that_are_not_there_are_null() -> None:
    assert table_of({"path": pa.array(["a"])}, SCHEMA).to_pylist() == [{"path": "a", "size_bytes": None}]


def test_rows_are_objects_only_a_few_thousand_at_a_time() -> None:
    n = 60_000
    tracemalloc.start()
    table = table_of_rows(((f"glass/{number:032d}.jpg", number) for number in range(n)), SCHEMA)
    assert sum(size for _, size in rows_in(table, "path", "size_bytes")) == n * (n - 1) // 2
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 8 << 20
