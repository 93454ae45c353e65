"""The files an evaluation ends in: `evaluation.json` and `predictions.parquet`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ray_trash.evaluate.metrics import METRICS, ClassificationSums
from ray_trash.score.rows import CLASSES_KEY

EVALUATION_FILE = "evaluation.json"
PREDICTIONS_FILE = "predictions.parquet"
CONFUSION_PICTURE_FILE = "confusion_matrix.png"


def class_figures(sums: ClassificationSums, classes: Sequence[str]) -> dict[str, Any]:
    """Return how `evaluation.json` begins: ratios are 0..1, a ratio over nothing is null, `loss` is in nats."""
    figures: dict[str, Any] = {}
    for name, metric in METRICS.items():
        figures[name] = metric.read(sums)
        if name == "accuracy":
            figures["accuracy_ci95"] = list(sums.accuracy_ci95)
    return {
        **figures,
        "classes": list(classes),
        "confusion_matrix": sums.confusion.tolist(),
        "per_class": sums.per_class(classes),
    }


def evaluation_json(document: Mapping[str, Any]) -> bytes:
    """Render the document as JSON; a number that is not finite, for which JSON has no word, is a `ValueError`."""
    return (json.dumps(document, indent=2, allow_nan=False) + "\n").encode()


def predictions_table(
    *,
    paths: Sequence[str],
    true_labels: Sequence[str],
    probabilities: NDArray[np.float32],
    abstained: NDArray[np.bool_],
    sha256: Sequence[str],
    classes: Sequence[str],
) -> pa.Table:
    """Make one row per scored photo, sorted by path, from (B, C) probabilities and (B,) of the other columns.

    The classes, in label order, are in the schema's metadata, where `classes_of` reads them back.
    """
    predicted = probabilities.argmax(axis=1)  # (B,)
    table = pa.table(
        {
            "path": pa.array(paths, pa.string()),
            "true_label": pa.array(true_labels, pa.string()),
            "label": pa.array([classes[i] for i in predicted], pa.string()),
            "confidence": pa.array(probabilities.max(axis=1), pa.float32()),
            "probabilities": pa.array(list(probabilities), pa.list_(pa.float32())),
            "abstained": pa.array(abstained, pa.bool_()),
            "sha256": pa.array(sha256, pa.string()),
        }
    )
    return table.sort_by("path").replace_schema_metadata({CLASSES_KEY: json.dumps(list(classes)).encode()})
