"""Made-up folders of results, written by what writes the real ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ray_trash.audit.document import build_audit
from ray_trash.audit.run import audit_json
from ray_trash.config import load_config, to_json
from ray_trash.dataset.catalog import CATALOG_SCHEMA, fingerprint
from ray_trash.dataset.columns import table_of_rows
from ray_trash.dataset.groups.relations import Relation
from ray_trash.evaluate.masked import masked_accuracies
from ray_trash.evaluate.metrics import ClassificationSums
from ray_trash.evaluate.outputs import Evaluation, evaluation_json, predictions_table
from ray_trash.evaluate.selective import selective_figures
from ray_trash.evaluate.unknown import unknown_figures
from ray_trash.image.contact_sheet import contact_sheet
from ray_trash.model.calibration import Calibration
from ray_trash.model.checkpoint import open_checkpoint
from ray_trash.score.rows import parquet_bytes
from ray_trash.train.learning_rate import RANGE_TEST, RangeTest
from tests.models import write_model
from tests.photos import make_photos
from tests.runs import write_config

CLASSES = ("glass", "metal", "paper")
PER_CLASS = 20
SIDES = ("train", "train", "val", "test")


def make_run(
    folder: Path, *, classes: Sequence[str] = CLASSES, evaluated: bool = True, photos: Path | None = None
) -> Path:
    """Write a run with everything in it. Its photos are beside it, a quarter of them of each of val and test."""
    root = photos or make_photos(folder / "photos", PER_CLASS, classes=tuple(classes))
    run = folder / "runs" / "tiny"
    run.mkdir(parents=True)
    config = load_config(write_config(folder, root))
    (run / "config.json").write_text(to_json(config))
    ended = {"status": "done", "started_at": "2026-01-01T00:00:00+00:00", "ended_at": "2026-01-01T00:01:00+00:00"}
    (run / "run.json").write_text(json.dumps({**ended, "seconds": 61.5, "versions": {"torch": "2.0"}}))
    write_model(run / "checkpoint", classes=tuple(classes))
    (run / "metrics.jsonl").write_text("".join(json.dumps(epoch(n)) + "\n" for n in range(1, 4)))
    found = RangeTest((1e-4, 1e-3, 1e-2), (1.1, 0.9, 1.4), 1e-4, "a tenth of 0.001, at which the loss is lowest")
    (run / RANGE_TEST).write_bytes(found.to_json())
    (run / "augmentation.png").write_bytes(contact_sheet([("glass", [np.zeros((32, 32, 3), np.uint8)])] * 14))
    catalog = catalog_at(root)
    # Two photos of test have a twin in training, and two pairs carry two labels.
    relations = [Relation(0, 3, "bytes"), Relation(5, PER_CLASS + 3, "near", shared_points=40, agreement=0.9)]
    relations += [Relation(1, PER_CLASS + 5, "pixels")]
    paths = catalog["path"].to_pylist()
    suspect: Any = {
        "path": paths[2],
        "label": "glass",
        "suggested": "metal",
        "score": 0.9,
        "reason": "looks like metal",
    }
    outlier: Any = {"path": paths[7], "kind": "near_empty", "value": 1.0}
    audit = build_audit(catalog, relations, warnings=["careful"], probes=PROBES, suspects=[suspect], outliers=[outlier])
    (run / "audit.json").write_bytes(audit_json(audit))
    if evaluated:
        write_evaluation(run, run / "checkpoint", root, catalog)
    return run


PROBES: Any = {
    "corners": {
        "what": "the colours of the four corners",
        "n": 20,
        "correct": 15,
        "accuracy": 0.75,
        "accuracy_ci95": [0.5313, 0.8881],
        "majority": 0.4,
        "scored_on": "val",
        "flagged": True,
        "verdict": "the background tells the classes apart",
    }
}


def epoch(number: int) -> dict[str, Any]:
    """Return a line of `metrics.jsonl`; the second epoch is the best."""
    return {
        "epoch": number,
        "train_loss": 1.0 / number,
        "train_accuracy": 0.5,
        "val_loss": 0.9,
        "val_accuracy": 0.8,
        "val_macro_f1": 0.8 if number == 2 else 0.7,
        "val_n": 15,
        "val_correct": 12,
        "learning_rate": 1e-3,
        "head_learning_rate": 5e-3,
        "images_per_s": 10.0,
        "seconds": 2.0,
        "is_best": number == 2,
        "stop_reason": "trained all 3 epochs" if number == 3 else "",
    }


def catalog_at(root: Path) -> pa.Table:
    """Catalogue a folder of photos, the sides in turn, with one file that is rejected."""
    rows = []
    for number, path in enumerate(sorted(path for path in root.rglob("*") if path.is_file())):
        where = path.relative_to(root).as_posix()
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        rows.append((number, where, where.split("/")[0], len(content), digest, 64, 48, "accepted", None, None))
    bad = (len(rows), "paper/bad.jpg", "paper", None, None, None, None, "rejected", "truncated", None)
    sides = [SIDES[number % len(SIDES)] for number in range(len(rows))]
    return table_of_rows([*rows, bad], CATALOG_SCHEMA).append_column("split", pa.array([*sides, None], pa.string()))


def write_evaluation(out: Path, checkpoint: Path, root: Path, catalog: pa.Table, *, split: str = "test") -> Path:
    """Write an evaluation: probabilities that are made up, the figures that follow from them."""
    document = open_checkpoint(checkpoint).document
    classes, rows = document.classes, [row for row in catalog.to_pylist() if row["split"] == split]
    labels = np.array([classes.index(row["label"]) for row in rows])
    random = np.random.default_rng(0)
    likelihood = random.random((len(rows), len(classes))) + 0.3 * np.eye(len(classes))[labels]
    probabilities = (likelihood / likelihood.sum(axis=1, keepdims=True)).astype(np.float32)
    calibration = Calibration(0.9, (0.45,) * len(classes), 0.05, 100)
    sums = ClassificationSums.zeros(len(classes))
    sums.update(probabilities, labels)
    evaluation = Evaluation(
        sums=sums,
        classes=classes,
        split=split,
        checkpoint=document.id,
        checkpoint_path=str(checkpoint),
        data_root=str(root),
        dataset_fingerprint=fingerprint(catalog),
        scoring={"device": "cpu", "precision": "fp32", "batch_size": 32, "views": 1},
        counts={"seen": 61, "accepted": 60, "rejected": 1, "ignored": 0},
        skipped=[{"path": "paper/bad.jpg", "reason": "truncated"}],
        ignored=[],
        warnings=[],
        selective=selective_figures(probabilities, labels, calibration, classes),
        masked=masked_accuracies(sums, border=sums, centre=sums),
        unknown=unknown_figures(["noise", "noise", "text"], np.array([True, False, True])),
    )
    out.mkdir(parents=True, exist_ok=True)
    (out / "evaluation.json").write_bytes(evaluation_json(evaluation.to_json()))
    table = predictions_table(
        paths=[row["path"] for row in rows],
        true_labels=[row["label"] for row in rows],
        probabilities=probabilities,
        abstained=calibration.abstains(probabilities),
        sha256=[row["sha256"] for row in rows],
        classes=classes,
    )
    (out / "predictions.parquet").write_bytes(parquet_bytes(table))
    return out
