"""The files an evaluation ends in: `evaluation.json` and `predictions.parquet`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ray_trash.evaluate.metrics import METRICS, ClassificationSums
from ray_trash.score.rows import CLASSES_KEY

EVALUATION_FILE = "evaluation.json"
PREDICTIONS_FILE = "predictions.parquet"
CONFUSION_PICTURE_FILE = "confusion_matrix.png"


@dataclass(frozen=True)
class Evaluation:
    """What was evaluated, and what came of it.

    Attributes:
        sums: Over at least one photo.
        classes: Names in label order.
        checkpoint: The checkpoint's own id.
        data_root: Folder of the photos.
        dataset_fingerprint: Over every accepted photo of the data root, whatever its split.
        scoring: Device, precision, batch size, views.
        counts: Files by `seen`, `accepted`, `rejected`, `ignored`; the last three add up to the first.
        skipped: The rejected files, {path, reason}.
        ignored: The files that are no photos of any class, {path, reason}.
        selective: From `selective_figures`.
        masked: From `masked_accuracies`, where photos were scored with parts hidden.
        unknown: From `unknown_figures`, likewise.
    """

    sums: ClassificationSums
    classes: Sequence[str]
    split: str
    checkpoint: str
    checkpoint_path: str
    data_root: str
    dataset_fingerprint: str
    scoring: Mapping[str, Any]
    counts: Mapping[str, int]
    skipped: Sequence[Mapping[str, str]]
    ignored: Sequence[Mapping[str, str]]
    warnings: Sequence[str]
    selective: Mapping[str, Any] = field(default_factory=dict)
    masked: Mapping[str, Any] | None = None
    unknown: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the content of `evaluation.json`: ratios are 0..1, a ratio over nothing is null, `loss` in nats."""
        figures: dict[str, Any] = {}
        for name, metric in METRICS.items():
            figures[name] = metric.read(self.sums)
            if name == "accuracy":
                figures["accuracy_ci95"] = list(self.sums.accuracy_ci95)
        return {
            **figures,
            "classes": list(self.classes),
            "confusion_matrix": self.sums.confusion.tolist(),
            "per_class": self.sums.per_class(self.classes),
            "split": self.split,
            "checkpoint": self.checkpoint,
            "checkpoint_path": self.checkpoint_path,
            "data_root": self.data_root,
            "dataset_fingerprint": self.dataset_fingerprint,
            "scoring": dict(self.scoring),
            "counts": dict(self.counts),
            "skipped": [dict(item) for item in self.skipped],
            "ignored": [dict(item) for item in self.ignored],
            "warnings": list(self.warnings),
            **self.selective,
            **({} if self.masked is None else {"masked": dict(self.masked)}),
            **({} if self.unknown is None else {"unknown": dict(self.unknown)}),
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
        classes: The C names in label order; in the schema's metadata, where `classes_of` reads them back.
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
