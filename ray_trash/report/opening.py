"""The first sentence of a report: what was trained on what, how good it is, and what it is not good at."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ray_trash.evaluate.metrics import direction_of, wilson_interval
from ray_trash.model.limits import shown_twice, weakest_class
from ray_trash.report.material import Material
from ray_trash.terminal.text import counted, percent, percents


@dataclass(frozen=True)
class Twins:
    """The evaluated photos that show what a training photo shows, and how many of the others are right."""

    n: int
    others: int
    others_correct: int

    @property
    def others_ci95(self) -> tuple[float, float]:
        """Wilson's interval of the others' accuracy."""
        return wilson_interval(self.others_correct, self.others)


def twins_of(found: Material) -> Twins | None:
    """Count, from the audit and the predictions, what is left without twins; None where either is missing."""
    if not found.side or found.predictions is None:
        return None
    groups = found.audit["splits"]["train"]["straddling_groups"] if found.audit else []
    twins = {path for group in groups for path in group}
    rows = found.predictions.select(["path", "true_label", "label"]).to_pylist()
    others = [row["true_label"] == row["label"] for row in rows if row["path"] not in twins]
    return Twins(len(rows) - len(others), len(others), sum(others))


def opening_sentence(found: Material) -> str:
    """Say it all in one sentence."""
    return f"{_what(found)} {_how_good(found)}."


def weights_name(weights: str) -> str:
    """Name where a network began, without the folders of a file."""
    return {"imagenet": "ImageNet weights", "none": "random weights"}.get(weights, posixpath.basename(weights))


def _what(found: Material) -> str:
    if not found.config and found.checkpoint is None:
        return f"The checkpoint {(found.evaluation or {}).get('checkpoint', '')}, which is gone,"
    model, data = found.config.get("model", {}), found.config.get("data", {})
    document = found.checkpoint.document if found.checkpoint is not None else None
    parts = []
    if document is not None and isinstance(document.data.get("n"), Mapping):
        parts.append(f"on {counted(document.data['n'].get('train', 0), 'photo')} of {len(document.classes)} classes")
    if "root" in data:
        parts.append(f"in {data['root']}" if parts else f"on the photos in {data['root']}")
    begun = f"begun with {weights_name(model['weights'])}" if "weights" in model else ""
    frozen = f"{model['frozen_stages']} of 5 stages frozen" if model.get("frozen_stages") else ""
    rounded = "answering by int8" if document is not None and document.is_int8 else ""
    how = ", ".join(part for part in (begun, frozen, rounded) if part)
    sweep = f", what a sweep of {counted(len(found.trials), 'trial')} kept," if found.trials is not None else ""
    network = document.network_name if document is not None else "A ResNet"
    return f"{network}{f' ({how})' if how else ''} trained {' '.join(parts)}{sweep}".rstrip()


def _how_good(found: Material) -> str:
    if found.evaluation is None:
        return _validated(found)
    evaluation = found.evaluation
    correct, n, split = evaluation["correct"], evaluation["n"], evaluation["split"]
    photos = {"all": "photos", "val": "validation photos, which chose it"}.get(split, f"{split} photos")
    said = (
        f"is right on {correct}/{n} = {percent(evaluation['accuracy'])} of the {photos} "
        f"(95 % interval {percents(evaluation['accuracy_ci95'])})"
    )
    twins = twins_of(found)
    if twins is not None and split != "train":
        if not twins.n:
            said += ", none of which shows what a training photo shows"
        elif twins.others:
            share = twins.others_correct / twins.others
            said += (
                f", and without the {shown_twice(twins.n)} what a training photo shows on "
                f"{twins.others_correct}/{twins.others} = {percent(share)} ({percents(twins.others_ci95)})"
            )
    weakest = weakest_class(evaluation)
    if weakest is None:
        return said
    taken = f", which it takes most often for {weakest.taken_for}" if weakest.taken_for else ""
    return f"{said}; it is least good at {weakest.name} ({weakest.correct}/{weakest.n}){taken}"


def _validated(found: Material) -> str:
    best = best_epoch(found)
    if best is None:
        return "has not finished an epoch"
    correct, n = best.get("val_correct"), best.get("val_n")
    figures = f"a macro-F1 of {best['val_macro_f1']:.3f}"
    if correct is not None and n:
        figures = (
            f"{correct:.0f}/{n:.0f} = {percent(correct / n)} right ({percents(wilson_interval(int(correct), int(n)))})"
        )
    # What the sweep kept may be a later training of this trial, with another seed.
    where = f"epoch {best['epoch']}" if found.trials is None else f"epoch {best['epoch']} of its trial"
    return (
        f"has reached {figures} on validation in {where}, which chose it, and has not been evaluated on photos it was "
        "not chosen by"
    )


def best_epoch(found: Material) -> Mapping[str, Any] | None:
    """Return the record of the epoch that was kept."""
    if found.trials is None:
        return next((record for record in reversed(found.epochs) if record.get("is_best")), None)
    metric = found.config.get("train", {}).get("select_by", "val_macro_f1")
    if metric == "last":
        return found.epochs[-1] if found.epochs else None
    metric = metric if metric.startswith("val_") else "val_macro_f1"
    sign = 1 if direction_of(metric) == "max" else -1
    return max(found.epochs, key=lambda record: sign * record[metric], default=None)
