"""How a scored file is written: as Parquet, CSV or JSON lines, by its suffix, with the same columns in each.

In CSV and JSON lines `probabilities` is a JSON object by class, in CSV the text of one, and null an empty cell. Texts
that a spreadsheet would take for formulas are changed in CSV: a path then begins with `./`, another text with an
apostrophe, as does one that began with an apostrophe already.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ray_trash.score.rows import classes_of

FORMATS = (".parquet", ".csv", ".jsonl")
"""The suffixes of scored files."""

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""Source: https://owasp.org/www-community/attacks/CSV_Injection"""


@contextmanager
def row_writer(sink: Any, name: str, schema: pa.Schema) -> Iterator[Callable[[pa.Table], Any]]:
    """Write tables of a schema, made by `schema_with`, to a file of bytes called `name`, one after the other."""
    if name.lower().endswith(".parquet"):
        with pq.ParquetWriter(sink, schema) as writer:
            yield writer.write_table
        return
    render = _csv_lines if name.lower().endswith(".csv") else _json_lines
    if render is _csv_lines:
        sink.write(_csv([schema.names]))
    yield lambda rows: sink.write(render(rows))


def _csv_lines(rows: pa.Table) -> bytes:
    return _csv([_cell(name, value) for name, value in row.items()] for row in _plain_rows(rows))


def _json_lines(rows: pa.Table) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in _plain_rows(rows)).encode()


def _plain_rows(rows: pa.Table) -> Iterator[dict[str, Any]]:
    classes = classes_of(rows.schema)
    for row in rows.to_pylist():
        if row["probabilities"] is not None:
            probabilities = dict(zip(classes, map(_shortest, row["probabilities"]), strict=True))
            row |= {"confidence": _shortest(row["confidence"]), "probabilities": probabilities}
        yield row


def _shortest(number: float) -> float:
    # As few digits as lead back to the same 32 bits.
    return float(str(np.float32(number)))


def _csv(rows: Any) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)  # ends lines by CR LF, so that a name with either is quoted
    return text.getvalue().encode()


def _cell(column: str, value: Any) -> Any:
    if isinstance(value, str):
        if column == "path":
            return f"./{value}" if value.startswith(_FORMULA_STARTS) else value
        return f"'{value}" if value.startswith((*_FORMULA_STARTS, "'")) else value
    return "" if value is None else json.dumps(value)
