from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_trash.errors import ConfigError, StorageError
from ray_trash.score.chunks import Plan, Target, choose_chunk_rows, pending_chunks
from ray_trash.score.inputs import INPUT_SCHEMA
from ray_trash.score.rows import ROW_SCHEMA, answered, complete_rows, refused, schema_with

PLAN = Plan(n=25, inputs="fingerprint", model_id="abc", chunk_rows=10)
CLASSES = ["glass", "metal"]


def rows_of(chunk: range) -> pa.Table:
    table = pa.Table.from_pylist([{"path": f"{n}.jpg"} for n in chunk], schema=INPUT_SCHEMA)
    positions = np.arange(chunk.start, chunk.stop)
    probabilities = np.tile(np.array([0.25, 0.75], np.float32), (len(chunk), 1))
    good = answered(positions, probabilities, positions % 2 == 0, CLASSES)
    return complete_rows(table, chunk.start, [good], "abc").cast(schema_with(CLASSES, "an engine"))


def test_chunks_become_one_file_in_order_and_are_removed(tmp_path: Path) -> None:
    target = Target(str(tmp_path / "out" / "scores.parquet"))
    assert target.begin(PLAN) == (set(), None)
    for number in (2, 0, 1):
        target.write_chunk(number, rows_of(PLAN.chunk(number)))
    tally, engine = target.join(PLAN, "")
    assert engine == "an engine"
    assert tally.to_json() == {"n": 25, "scored": 25, "errors": {}, "abstained": 13}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["scores.parquet"]
    table = pq.read_table(tmp_path / "out" / "scores.parquet")
    assert table.schema.equals(ROW_SCHEMA)
    assert json.loads(table.schema.metadata[b"classes"]) == CLASSES
    assert table["path"].to_pylist() == [f"{n}.jpg" for n in range(25)]
    assert set(table["label"].to_pylist()) == {"metal"}


@pytest.mark.parametrize("name", ["scores.parquet", "scores.csv", "scores.jsonl"])
def test_a_scoring_that_was_cut_short_goes_on(name: str, tmp_path: Path) -> None:
    target = Target(str(tmp_path / name))
    target.begin(PLAN)
    target.write_chunk(1, rows_of(PLAN.chunk(1)))
    (tmp_path / f"{name}.parts" / ".000002.parquet.x1").write_bytes(b"cut off")
    done, said = Target(str(tmp_path / name)).begin(PLAN)
    assert done == {1}
    assert said is not None
    assert "going on: 1 of 3 chunks" in said
    assert pending_chunks(PLAN, done) == [0, 2]
    for number in pending_chunks(PLAN, done):
        target.write_chunk(number, rows_of(PLAN.chunk(number)))
    assert target.join(PLAN, "")[0].n == 25
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("other", "word"),
    [
        (Plan(25, "fingerprint", "another", 10), "checkpoint"),
        (Plan(25, "fingerprint", "abc", 10, views=8), "number of views"),
        (Plan(25, "of others", "abc", 10), "input"),
        (Plan(26, "of others", "abc", 10), "input"),
    ],
)
def test_chunks_of_something_else_are_removed_and_that_is_said(other: Plan, word: str, tmp_path: Path) -> None:
    target = Target(str(tmp_path / "scores.parquet"))
    target.begin(PLAN)
    target.write_chunk(0, rows_of(PLAN.chunk(0)))
    done, said = target.begin(other)
    assert done == set()
    assert said is not None
    assert said.startswith("starting anew")
    assert said.endswith(f"another {word}")
    assert [path.name for path in (tmp_path / "scores.parquet.parts").iterdir()] == ["plan.json"]


def test_chunks_without_a_plan_are_not_trusted(tmp_path: Path) -> None:
    target = Target(str(tmp_path / "scores.parquet"))
    for damage in (b"", b"[1]", None):
        target.write_chunk(0, rows_of(PLAN.chunk(0)))
        plan = tmp_path / "scores.parquet.parts" / "plan.json"
        plan.write_bytes(damage) if damage is not None else plan.unlink()
        assert target.begin(PLAN)[0] == set()


def test_a_file_that_is_there_is_kept_unless_it_may_be_replaced(tmp_path: Path) -> None:
    target = Target(str(tmp_path / "scores.parquet"))
    target.require_free(overwrite=False)
    (tmp_path / "scores.parquet").write_bytes(b"something")
    with pytest.raises(ConfigError, match="--overwrite"):
        target.require_free(overwrite=False)
    target.require_free(overwrite=True)
    with pytest.raises(ConfigError, match="is a folder"):
        Target(str(tmp_path)).require_free(overwrite=True)


def test_a_damaged_chunk_is_named_and_the_file_is_not_made(tmp_path: Path) -> None:
    target = Target(str(tmp_path / "scores.parquet"))
    target.begin(PLAN)
    for number in range(3):
        target.write_chunk(number, rows_of(PLAN.chunk(0)))
    with pytest.raises(StorageError, match=r"000002\.parquet: has 10 rows"):
        target.join(PLAN, "")
    (tmp_path / "scores.parquet.parts" / "000001.parquet").write_bytes(b"PAR1")
    with pytest.raises(StorageError, match=r"000001\.parquet: is damaged"):
        target.join(PLAN, "")
    assert [path.name for path in tmp_path.iterdir()] == ["scores.parquet.parts"]


def test_a_photo_that_is_lost_or_there_twice_is_noticed() -> None:
    inputs = pa.Table.from_pylist([{"path": "a"}, {"path": "b"}], schema=INPUT_SCHEMA)
    for positions in ([0], [0, 0], [0, 1, 1], [0, 2]):
        codes = ["truncated"] * len(positions)
        with pytest.raises(AssertionError):
            complete_rows(inputs, 0, [refused(positions, codes, codes)], "abc")


def test_a_row_has_an_answer_or_an_error() -> None:
    rows = [{"path": "a"}, {"path": "b", "error_code": "unreadable", "error_message": "a link"}, {"path": "c"}]
    inputs = pa.Table.from_pylist(rows, schema=INPUT_SCHEMA)
    good = answered(np.array([7]), np.array([[0.75, 0.25]], np.float32), np.array([True]), CLASSES)
    done = complete_rows(inputs, 5, [good, refused([5], ["truncated"], ["cut"])], "abc").to_pylist()
    nothing = {"label": None, "confidence": None, "probabilities": None, "abstained": None, "model_id": "abc"}
    assert done[0] == {"path": "a", **nothing, "error_code": "truncated", "error_message": "cut"}
    assert done[1] == {"path": "b", **nothing, "error_code": "unreadable", "error_message": "a link"}
    answer = {"label": "glass", "confidence": 0.75, "probabilities": [0.75, 0.25], "abstained": True}
    assert done[2] == {"path": "c", **answer, "error_code": None, "error_message": None, "model_id": "abc"}


@pytest.mark.parametrize(("n", "rows"), [(1, 256), (2000, 256), (100_000, 448), (10**6, 3968), (10**7, 4096)])
def test_chunks_are_few_and_small(n: int, rows: int) -> None:
    assert choose_chunk_rows(n) == rows
