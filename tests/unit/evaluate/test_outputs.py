from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from ray_trash.evaluate.metrics import ClassificationSums
from ray_trash.evaluate.outputs import (
    Evaluation,
    evaluation_json,
    predictions_table,
)
from ray_trash.score.rows import classes_of, parquet_bytes

CLASSES = ("zebra", "ant")
SUBJECT: dict[str, Any] = {
    "checkpoint": "abc",
    "checkpoint_path": "/runs/a/checkpoint",
    "data_root": "/photos",
    "split": "test",
    "dataset_fingerprint": "f00d",
    "counts": {"seen": 5, "accepted": 3, "rejected": 1, "ignored": 1},
    "skipped": [{"path": "ant/bad.jpg", "reason": "truncated"}],
    "ignored": [{"path": "ant/.x", "reason": "hidden or system file"}],
    "scoring": {"device": "cpu", "precision": "fp32", "batch_size": 32, "views": 1},
    "warnings": [],
}
PROBABILITIES = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]], np.float32)


def sums() -> ClassificationSums:
    counted = ClassificationSums.zeros(2)
    counted.update(PROBABILITIES, np.array([0, 1, 1]))
    return counted


def table():
    return predictions_table(
        paths=["zebra/1.jpg", "ant/2.jpg", "ant/1.jpg"],
        true_labels=["zebra", "ant", "ant"],
        probabilities=PROBABILITIES,
        abstained=np.array([True, False, False]),
        sha256=["aa", "bb", "cc"],
        classes=CLASSES,
    )


def test_evaluation_json_has_the_keys_that_scripts_rely_on():
    document = json.loads(evaluation_json(Evaluation(sums(), CLASSES, **SUBJECT).to_json()))

    assert document["n"] == 3
    assert document["correct"] == 2
    assert document["accuracy"] == pytest.approx(2 / 3)
    assert document["accuracy_ci95"][0] < 2 / 3 < document["accuracy_ci95"][1]
    assert document["classes"] == ["zebra", "ant"]
    assert document["confusion_matrix"] == [[1, 0], [1, 1]]
    assert set(document["per_class"]["ant"]) == {"n", "precision", "recall", "f1", "recall_ci95"}
    assert {"macro_f1", "loss", "ece"} <= document.keys()
    assert document["split"] == "test"
    assert document["checkpoint"] == "abc"
    assert document["checkpoint_path"] == "/runs/a/checkpoint"
    assert document["data_root"] == "/photos"
    assert document["dataset_fingerprint"] == "f00d"
    assert document["skipped"] == [{"path": "ant/bad.jpg", "reason": "truncated"}]
    assert document["counts"] == {"seen": 5, "accepted": 3, "rejected": 1, "ignored": 1}


def test_a_value_json_has_no_word_for_is_never_written():
    with pytest.raises(ValueError, match="not JSON compliant"):
        evaluation_json({"loss": float("nan")})


def test_predictions_are_sorted_by_path_and_survive_the_file():
    read = pq.read_table(io.BytesIO(parquet_bytes(table())))

    assert read.column_names == [
        "path",
        "true_label",
        "label",
        "confidence",
        "probabilities",
        "abstained",
        "sha256",
    ]
    assert read.column("path").to_pylist() == ["ant/1.jpg", "ant/2.jpg", "zebra/1.jpg"]
    assert read.column("true_label").to_pylist() == ["ant", "ant", "zebra"]
    assert read.column("label").to_pylist() == ["zebra", "ant", "zebra"]
    assert read.column("abstained").to_pylist() == [False, False, True]
    assert read.column("sha256").to_pylist() == ["cc", "bb", "aa"]
    np.testing.assert_array_equal(np.stack(read.column("probabilities").to_numpy()), PROBABILITIES[::-1])
    np.testing.assert_array_equal(read.column("confidence").to_numpy(), [*PROBABILITIES.max(axis=1)[::-1]])


def test_the_class_order_is_in_the_predictions_file():
    assert classes_of(pq.read_table(io.BytesIO(parquet_bytes(table()))).schema) == ["zebra", "ant"]


def test_hostile_paths_survive_the_predictions_file():
    names = ["a\nb.jpg", '"quoted".jpg', "=1+1.jpg", "$(rm -rf).jpg", "<img>.jpg", "\u202egpj.jpg"]
    written = predictions_table(
        paths=names,
        true_labels=["ant"] * 6,
        probabilities=np.tile(PROBABILITIES[:1], (6, 1)),
        abstained=np.zeros(6, bool),
        sha256=["aa"] * 6,
        classes=CLASSES,
    )
    assert pq.read_table(io.BytesIO(parquet_bytes(written))).column("path").to_pylist() == sorted(names)
