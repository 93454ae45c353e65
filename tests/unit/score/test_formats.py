"""A scored file as CSV and JSON lines: the same rows as in Parquet, with the same names, and no formula."""

from __future__ import annotations

import csv
import io
import json
import posixpath
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ray_trash.errors import ConfigError
from ray_trash.score.chunks import Plan, Target
from ray_trash.score.inputs import INPUT_SCHEMA
from ray_trash.score.rows import ROW_SCHEMA, answered, complete_rows, refused, schema_with

CLASSES = ["=glass", "'metal"]
NAMES = [
    *("a.jpg", 'quote".jpg', "comma, b.jpg", "new\nline.jpg", "return\rline.jpg", "line\u2028.jpg", "ü\\xff.jpg"),
    *("=1+1", "-rf", "+49", "@sum", "\ttab", "\rreturn", "'apostrophe", "a=b", "./=x"),
]
PROBABILITIES = np.linspace(0.1, 0.9, 2 * len(NAMES), dtype=np.float32).reshape(-1, 2)


def written(folder: Path, name: str) -> str:
    """Write all names in two chunks, the last row refused, and return the file's text."""
    plan = Plan(len(NAMES), "fingerprint", "abc", 10)
    target = Target(str(folder / name))
    target.require_free(overwrite=False)
    target.begin(plan)
    inputs = pa.Table.from_pylist([{"path": path} for path in NAMES], schema=INPUT_SCHEMA)
    last = len(NAMES) - 1
    outcomes = [answered(np.arange(last), PROBABILITIES[:last], np.arange(last) % 2 == 0, CLASSES)]
    rows = complete_rows(inputs, 0, [*outcomes, refused([last], ["truncated"], ["cut, short"])], "abc")
    for number in range(plan.n_chunks):
        chunk = plan.chunk(number)
        target.write_chunk(number, rows.slice(chunk.start, len(chunk)).cast(schema_with(CLASSES, "torch")))
    target.join(plan, "")
    assert [path.name for path in folder.iterdir()] == [name]
    return (folder / name).read_bytes().decode()


def test_json_lines_have_all_columns_and_probabilities_by_class(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in written(tmp_path, "scores.jsonl").splitlines()]
    assert [row["path"] for row in rows] == NAMES
    assert all(list(row) == ROW_SCHEMA.names for row in rows)
    for row, probabilities in zip(rows[:-1], PROBABILITIES, strict=False):
        assert np.array_equal(np.array([*row["probabilities"].values()], np.float32), probabilities)
        assert list(row["probabilities"]) == CLASSES
        assert (row["label"], row["error_code"]) == (CLASSES[1], None)
        assert np.float32(row["confidence"]) == probabilities.max()
    assert rows[0]["abstained"] is True
    nothing = dict.fromkeys(("label", "confidence", "probabilities", "abstained"))
    error = {"error_code": "truncated", "error_message": "cut, short", "model_id": "abc"}
    assert rows[-1] == {"path": NAMES[-1], **nothing, **error}


def test_csv_has_the_same_names_and_nothing_that_a_spreadsheet_takes_for_a_formula(tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(written(tmp_path, "scores.CSV"), newline=""), strict=True))
    assert [posixpath.normpath(row["path"]) for row in rows] == [posixpath.normpath(name) for name in NAMES]
    assert [row["path"] for row in rows if not row["path"].startswith("./")] == [
        name for name in NAMES if not name.startswith((".", "=", "-", "+", "@", "\t", "\r"))
    ]
    assert not [cell for row in rows for cell in row.values() if cell.startswith(("=", "-", "+", "@", "\t", "\r"))]
    assert all(list(row) == ROW_SCHEMA.names for row in rows)
    assert {row["label"] for row in rows} == {"''metal", ""}
    assert json.loads(rows[0]["probabilities"]) == pytest.approx(
        dict(zip(CLASSES, PROBABILITIES[0].tolist(), strict=True))
    )
    assert [row["abstained"] for row in rows[:2]] == ["true", "false"]
    assert (rows[-1]["confidence"], rows[-1]["error_message"]) == ("", "cut, short")


@pytest.mark.parametrize("name", ["scores", "scores.txt", "scores.json", "scores.csv.gz"])
def test_another_suffix_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"must end in \.parquet, \.csv or \.jsonl"):
        Target(str(tmp_path / name)).require_free(overwrite=True)
