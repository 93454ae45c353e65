"""The rows of a scored file: what was said of each input, or why nothing was.

Letters in shapes: B photos, C classes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ray_trash.dataset.columns import table_of

ROW_SCHEMA = pa.schema(
    {
        "path": pa.string(),
        "label": pa.string(),
        "confidence": pa.float32(),
        "probabilities": pa.list_(pa.float32()),
        "abstained": pa.bool_(),
        "error_code": pa.string(),
        "error_message": pa.string(),
        "model_id": pa.string(),
    }
)
"""A scored file. `error_code` and `error_message` are null where there is an answer, the four before them where there
is none."""

CLASSES_KEY = b"classes"
"""Metadata of a table of answers: the class names, a JSON list in the order of the probabilities."""

OUTCOME_SCHEMA = pa.schema(
    [pa.field("position", pa.int64()), *(field for field in ROW_SCHEMA if field.name not in ("path", "model_id"))]
)
"""What became of inputs, by their positions."""


@dataclass(frozen=True)
class Outcomes:
    """Some inputs, done: a table of `OUTCOME_SCHEMA` in any order, and what computed."""

    table: pa.Table
    engine: str


def schema_with(classes: Sequence[str], engine: str, views: int | None = None) -> pa.Schema:
    """Return `ROW_SCHEMA` with the class names, what computed, and the views of a photo; None where nobody says."""
    metadata = {CLASSES_KEY: json.dumps(list(classes)).encode(), b"engine": engine.encode()}
    return ROW_SCHEMA.with_metadata(metadata | ({} if views is None else {b"views": str(views).encode()}))


def classes_of(schema: pa.Schema) -> list[str]:
    """Return the class names of a table of answers, in the order of its probabilities."""
    names: list[str] = json.loads(schema.metadata[CLASSES_KEY])
    return names


def engine_of(schema: pa.Schema) -> str:
    """Return the engine that `schema_with` was given."""
    return str(schema.metadata[b"engine"].decode())


def answered(
    positions: NDArray[np.int64],
    probabilities: NDArray[np.float32],
    abstained: NDArray[np.bool_],
    classes: Sequence[str],
) -> pa.Table:
    """Make the outcomes of photos that were answered: (B,) positions, (B, C) probabilities, (B,) abstained."""
    labels = np.array(classes, object)[probabilities.argmax(axis=1)] if len(positions) else []
    columns = {
        "position": pa.array(positions, pa.int64()),
        "label": pa.array(labels, pa.string()),
        "confidence": pa.array(probabilities.max(axis=1, initial=0.0), pa.float32()),
        "probabilities": pa.array(list(probabilities), pa.list_(pa.float32())),
        "abstained": pa.array(abstained, pa.bool_()),
    }
    return table_of(columns, OUTCOME_SCHEMA)


def refused(positions: Sequence[int], codes: Sequence[str], messages: Sequence[str]) -> pa.Table:
    """Make the outcomes of inputs that are no photos."""
    columns = {
        "position": pa.array(positions, pa.int64()),
        "error_code": pa.array(codes, pa.string()),
        "error_message": pa.array(messages, pa.string()),
    }
    return table_of(columns, OUTCOME_SCHEMA)


def complete_rows(inputs: pa.Table, first: int, outcomes: Sequence[pa.Table], model_id: str) -> pa.Table:
    """Put the rows of consecutive inputs from position `first` on together, in their order.

    Those with an `error_code` need no outcome; of the others there is one each.
    """
    known = np.flatnonzero(np.asarray(inputs["error_code"].is_valid()))
    codes, messages = (inputs[name].take(pa.array(known)).to_pylist() for name in ("error_code", "error_message"))
    table = pa.concat_tables([*outcomes, refused((known + first).tolist(), codes, messages)]).sort_by("position")
    positions = np.asarray(table["position"])
    assert np.array_equal(positions, np.arange(first, first + len(inputs))), "a photo was lost or scored twice"
    columns = {name: table[name] for name in table.column_names}
    return table_of(columns | {"path": inputs["path"], "model_id": pa.array([model_id] * len(inputs))}, ROW_SCHEMA)


class Tally:
    """What became of all rows, counted."""

    def __init__(self) -> None:
        """Count from nothing."""
        self.n = self.scored = self.abstained = 0
        self.errors: dict[str, int] = {}

    def add(self, rows: pa.Table) -> None:
        """Count rows of a scored file."""
        self.n += len(rows)
        self.scored += rows["error_code"].null_count
        self.abstained += pc.sum(rows["abstained"]).as_py() or 0
        for count in pc.value_counts(rows["error_code"].drop_null()).to_pylist():
            self.errors[count["values"]] = self.errors.get(count["values"], 0) + count["counts"]

    def to_json(self) -> Mapping[str, Any]:
        """Return the counts, `errors` by code."""
        errors = dict(sorted(self.errors.items()))
        return {"n": self.n, "scored": self.scored, "errors": errors, "abstained": self.abstained}


def parquet_bytes(table: pa.Table) -> bytes:
    """Render a table as one Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue())
