"""The parts of a report, each as what its template shows, or None where there is nothing to show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ray_trash.config import by_dotted_key, config_from_tree
from ray_trash.dataset.catalog import SIDES
from ray_trash.dataset.read import PhotoFolder
from ray_trash.evaluate.metrics import ClassificationSums, direction_of
from ray_trash.report import charts
from ray_trash.report.material import Material
from ray_trash.report.opening import best_epoch, twins_of
from ray_trash.report.pictures import answered, least_sure, looked_at, most_wrong, sheet_uri, worst_of_audit
from ray_trash.report.slices import slices_of
from ray_trash.report.sweep import sweep_section
from ray_trash.tune.space import search_space
from ray_trash.tune.trials import metric_of
from ray_trash.tune.verdict import Comparison, Verdict, verdict_lines

MOST_REJECTED = 50
"""Files that are named; the others are counted."""
MOST_CLASSES_IN_MATRIX = 40
"""A confusion matrix of more classes is not readable: the commonest confusions are listed in its place."""
_MOST_CONFUSIONS = 30
_MOST_CLASSES_IN_CHART = 40

Part = dict[str, Any]


@dataclass(frozen=True)
class Photos:
    """Where the photos are, None where they are gone, and the predictions' rows."""

    folder: PhotoFolder | None
    rows: Sequence[Mapping[str, Any]]


def audit_part(found: Material, photos: Photos) -> Part | None:
    """What is wrong with the photos, the worst of it in pictures."""
    if found.audit is None:
        return None
    audit = found.audit
    return {
        "counts": audit["counts"],
        "rejected": audit["rejected"][:MOST_REJECTED],
        "n_rejected": len(audit["rejected"]),
        "findings": [
            ("groups of copies", len(audit["exact_duplicates"])),
            ("groups that show the same shot", len(audit["near_duplicates"])),
            ("groups that show the same object", len(audit["same_object"])),
            ("groups of the same photo under different labels", len(audit["conflicts"])),
            ("doubtful labels", len(audit["suspects"])),
            *sorted(Counter(one["kind"].replace("_", " ") + " photos" for one in audit["outliers"]).items()),
        ],
        "searched": audit["searched"],
        "warnings": audit["warnings"],
        "worst": worst_of_audit(audit, photos.folder),
    }


def split_part(found: Material) -> Part | None:
    """Photos of each class on each side."""
    if found.audit is None:
        return None
    splits, balance = found.audit["splits"], found.audit["balance"]
    sides = [side for side in SIDES if side in splits]
    return {
        "sides": sides,
        "rows": [
            (name, [splits[side]["per_class"].get(name, 0) for side in sides], n)
            for name, n in balance["per_class"].items()
        ],
        "totals": [splits[side]["n"] for side in sides],
        "twins": [(side, splits[side]["twins_in_train"]) for side in sides if side != "train"],
        "balance": balance,
    }


def training_part(found: Material) -> Part | None:
    """What training saw."""
    if found.sheet is None:
        return None
    picture, cut = sheet_uri(found.sheet)
    changes = {key: value for key, value in by_dotted_key(found.config).items() if key.startswith("augment.")}
    return {
        "picture": picture,
        "cut": cut,
        "augment": {key: value for key, value in changes.items() if value is not None},
    }


def curves_part(found: Material) -> Part | None:
    """How training went, epoch by epoch."""
    if not found.epochs:
        return None
    best = best_epoch(found)
    at = None if best is None else best["epoch"]
    rates = {"learning_rate": "last stage", "head_learning_rate": "head"}
    if all(epoch.get("learning_rate") == epoch.get("head_learning_rate") for epoch in found.epochs):
        rates = {"learning_rate": "all that is trained"}
    drawn = (
        ("loss", {"train_loss": "training", "val_loss": "validation"}, False),
        ("accuracy", {"train_accuracy": "training", "val_accuracy": "validation", "val_macro_f1": "macro-F1"}, False),
        ("learning rate", rates, True),
    )
    drawn_charts = [
        (title, chart)
        for title, names, log in drawn
        if (chart := charts.epoch_curves(found.epochs, names, best=at, title=title, log=log))
    ]
    if found.range_test is not None:
        what = f"how the learning rate was found: {found.range_test.why}"
        drawn_charts.append((what, charts.range_test(found.range_test)))
    return {
        "n": len(found.epochs),
        "charts": drawn_charts,
        "best": best,
        "figures": [] if best is None else [(name, best[name]) for name in best if name.startswith(("train_", "val_"))],
        "stop_reason": found.epochs[-1].get("stop_reason", ""),
        "of_trial": (found.verdict or {}).get("winner") if found.trials is not None else None,
    }


def sweep_part(found: Material) -> Part | None:
    """Every trial of a sweep."""
    if found.trials is None:
        return None
    config = config_from_tree(found.config)
    metric = metric_of(config)
    # Keys that were searched when the sweep was begun: the default space may be another one by now.
    space = {key: what for key, what in search_space(config).items() if key in found.trials[0].params}
    higher = direction_of(metric) == "max"
    lines = _verdict_lines(found.verdict or {})
    return sweep_section(found.trials, space, metric=metric, higher_is_better=higher, lines=lines)


def _verdict_lines(verdict: Mapping[str, Any]) -> list[str]:
    said = [verdict["summary"]] if "summary" in verdict else []
    if "comparisons" not in verdict:
        return said + ([verdict["reason"]] if "reason" in verdict else [])
    rebuilt = Verdict(
        winner=verdict["winner"],
        comparisons={int(trial): Comparison(**one) for trial, one in verdict["comparisons"].items()},
        accuracies={int(trial): tuple(values) for trial, values in verdict["accuracies"].items()},
        n_photos=verdict["n_photos"],
        seeds=verdict["seeds"],
    )
    return said + verdict_lines(rebuilt)


def result_part(found: Material) -> Part | None:
    """The figures of an evaluation, its confusion matrix and its classes."""
    if found.evaluation is None:
        return None
    evaluation = found.evaluation
    classes, confusion = evaluation["classes"], evaluation["confusion_matrix"]
    per_class = [
        (name, row[c], evaluation["per_class"][name])
        for c, (name, row) in enumerate(zip(classes, confusion, strict=True))
    ]
    of_recall = [(name, one["recall"], one["recall_ci95"]) for name, _, one in per_class if one["recall"] is not None]
    confusions = sorted(
        (
            (n, classes[true], classes[said])
            for true, row in enumerate(confusion)
            for said, n in enumerate(row)
            if n and true != said
        ),
        key=lambda one: (-one[0], one[1], one[2]),
    )
    return {
        "evaluation": evaluation,
        "twins": twins_of(found),
        "classes": classes,
        "matrix": (
            [
                (name, sum(row), [(n, n / sum(row) if sum(row) else 0.0) for n in row])
                for name, row in zip(classes, confusion, strict=True)
            ]
            if len(classes) <= MOST_CLASSES_IN_MATRIX
            else None
        ),
        "confusions": confusions[:_MOST_CONFUSIONS],
        "n_confusions": len(confusions),
        "per_class": per_class,
        "recalls": (
            charts.intervals(of_recall, "recall", overall=evaluation["accuracy"], what="recall")
            if 0 < len(of_recall) <= _MOST_CLASSES_IN_CHART
            else ""
        ),
    }


def calibration_part(found: Material) -> Part | None:
    """Whether confidence means what it says, and what is left unanswered."""
    if found.evaluation is None or "selective" not in found.evaluation:
        return None
    evaluation = found.evaluation
    selective = evaluation["selective"]
    return {
        "evaluation": evaluation,
        "selective": selective,
        "wrong": None if selective["error"] is None else round(selective["error"] * selective["answered"]),
        "reliability": charts.reliability(_sums(found)) if found.predictions is not None else "",
        "risk": charts.risk_coverage(evaluation["risk_coverage"], selective),
        "temperature": None if found.checkpoint is None else found.checkpoint.document.calibration.temperature,
    }


def _sums(found: Material) -> ClassificationSums:
    assert found.predictions is not None
    assert found.evaluation is not None
    classes = found.evaluation["classes"]
    number = {name: c for c, name in enumerate(classes)}
    sums = ClassificationSums.zeros(len(classes))
    probabilities = np.array(found.predictions["probabilities"].to_pylist(), np.float32)
    sums.update(probabilities, np.array([number[name] for name in found.predictions["true_label"].to_pylist()]))
    return sums


def answers_part(found: Material, photos: Photos) -> Part | None:
    """The photos it is most wrong about, with what it looked at, and those it is least sure of."""
    if not photos.rows:
        return None
    n_wrong = sum(row["true_label"] != row["label"] for row in photos.rows)
    views = (found.evaluation or {}).get("scoring", {}).get("views")
    wrong = looked_at(most_wrong(photos.rows), photos.folder, found.checkpoint, views=views)
    return {
        "n_wrong": n_wrong,
        "wrong": wrong,
        "n_maps": sum(one["has_map"] for one in wrong),
        "unsure": answered(least_sure(photos.rows), photos.folder),
    }


def slices_part(found: Material, photos: Photos) -> Part | None:
    """How good it is on bright photos, dark ones, sharp ones and so on."""
    if found.evaluation is None or not photos.rows:
        return None
    slices = slices_of(photos.rows, photos.folder, found.audit)
    if not slices.slices:
        return None
    rows = [(one.what, one.accuracy, one.ci95) for one in slices.slices]
    overall = found.evaluation["accuracy"]
    return {
        "slices": slices.slices,
        "overall": overall,
        "measured": slices.measured,
        "n": slices.n,
        "chart": charts.intervals(rows, "slices", overall=overall, what="share that is right"),
    }


def shortcuts_part(found: Material) -> Part | None:
    """What gives the classes away, and what the answers rest on."""
    probes = {} if found.audit is None else found.audit["probes"]
    evaluation = found.evaluation or {}
    masked, unknown = evaluation.get("masked", {}), evaluation.get("unknown")
    if not probes and not masked and unknown is None:
        return None
    return {"probes": probes, "masked": masked, "unknown": unknown, "whole": evaluation}
