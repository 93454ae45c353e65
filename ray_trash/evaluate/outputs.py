"""The files an evaluation ends in: `evaluation.json` and `predictions.parquet`.

Sums and scored rows in, JSON values and bytes out. Knows neither where they are written nor how the
photos were scored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ray_trash.evaluate.metrics import METRICS, ClassificationSums

EVALUATION_FILE = "evaluation.json"
PREDICTIONS_FILE = "predictions.parquet"
CONFUSION_PICTURE_FILE = "confusion_matrix.png"

_CLASSES_KEY = b"classes"
"""Key of the Parquet schema metadata that holds the class names, a JSON list in label order."""


@dataclass(frozen=True)
class Subject:
    """What was evaluated: which checkpoint on which photos.

    Attributes:
        checkpoint_id: The checkpoint's own id.
        checkpoint_path: Path or URI it was read from.
        split: `test`, `val`, `train` or `all`.
        dataset_fingerprint: Over every accepted photo of the data root, whatever its split.
        counts: Files by `seen`, `accepted`, `rejected`, `ignored`; the last three add up to the
            first.
        skipped: The rejected files, {path, reason}.
        ignored: The files that were left aside as no photos of any class, {path, reason}.
        scoring: How the photos were scored: device, precision, batch size, views.
        warnings: What a reader of the numbers should know, in sentences.
    """

    checkpoint_id: str
    checkpoint_path: str
    split: str
    dataset_fingerprint: str
    counts: Mapping[str, int]
    skipped: Sequence[Mapping[str, str]]
    ignored: Sequence[Mapping[str, str]]
    scoring: Mapping[str, Any]
    warnings: Sequence[str]


def evaluation_document(sums: ClassificationSums, classes: Sequence[str], subject: Subject) -> dict[str, Any]:
    """Put the content of `evaluation.json` together.

    Args:
        sums: At least one photo.
        classes: Names in label order.
        subject: What was evaluated.

    Returns:
        JSON values only; ratios are 0..1, a ratio over nothing is null, `loss` is in nats.
    """
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
        "split": subject.split,
        "checkpoint": subject.checkpoint_id,
        "checkpoint_path": subject.checkpoint_path,
        "dataset_fingerprint": subject.dataset_fingerprint,
        "scoring": dict(subject.scoring),
        "counts": dict(subject.counts),
        "skipped": [dict(item) for item in subject.skipped],
        "ignored": [dict(item) for item in subject.ignored],
        "warnings": list(subject.warnings),
    }


def evaluation_json(document: Mapping[str, Any]) -> bytes:
    """Render the document as JSON.

    Raises:
        ValueError: A number is not finite, for which JSON has no word.
    """
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
    """Make one row per scored photo, sorted by path.

    Args:
        paths: Relative to the data root, with `/`, each once.
        true_labels: Class names of the folders.
        probabilities: (B, C) float32, rows summing to 1.
        abstained: (B,), true where `label` is not sure enough to be given.
        sha256: Hex digests of the files.
        classes: The C names in label order.

    Returns:
        Columns path, true_label, label, confidence, probabilities (list<float32> in the order of
        `classes`), abstained, sha256. The class names are in the schema metadata: `classes_of`
        reads them back.
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
    return table.sort_by("path").replace_schema_metadata({_CLASSES_KEY: json.dumps(list(classes)).encode()})


def classes_of(predictions: pa.Table) -> list[str]:
    """Return the class names of a predictions table, in the order of its probabilities."""
    names: list[str] = json.loads(predictions.schema.metadata[_CLASSES_KEY])
    return names


def parquet_bytes(table: pa.Table) -> bytes:
    """Render a table as one Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue())
