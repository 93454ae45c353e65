"""Rows in Python made into columns of Arrow and read from them, a few thousand at a time: never all as objects.

A row of a million as Python objects takes a kilobyte, as columns some hundred bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import pyarrow as pa

_AT_ONCE = 8192
"""Rows that are objects at the same time."""


def table_of_rows(rows: Iterable[Sequence[Any]], schema: pa.Schema) -> pa.Table:
    """Write rows, each with a value for every field of a schema in its order, as one chunk."""
    waiting = iter(rows)
    blocks = []
    while block := list(islice(waiting, _AT_ONCE)):
        columns = zip(zip(*block, strict=True), schema, strict=True)
        blocks.append(pa.record_batch([pa.array(values, field.type) for values, field in columns], schema=schema))
    return pa.Table.from_batches(blocks, schema=schema).combine_chunks()


def table_of(columns: Mapping[str, Any], schema: pa.Schema) -> pa.Table:
    """Make a table of a schema from some of its columns; the others are null."""
    n = len(next(iter(columns.values())))
    return pa.table([columns.get(field.name, pa.nulls(n, field.type)) for field in schema], schema=schema)


def rows_in(table: pa.Table, *names: str) -> Iterator[tuple[Any, ...]]:
    """Yield the values of these columns, row by row."""
    for block in table.select(list(names)).to_batches(max_chunksize=_AT_ONCE):
        yield from zip(*(column.to_pylist() for column in block.columns), strict=True)
