"""What a checkpoint answers and what it leaves open: how many answers it gives, and how many of those are wrong.

Letters in shapes: N photos, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_trash.evaluate.metrics import ClassificationSums, wilson_interval
from ray_trash.model.calibration import Calibration

MAX_CURVE_POINTS = 50
"""Points of the risk-coverage curve that are written: enough to draw it, few enough to read."""


def selective_figures(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], calibration: Calibration, classes: Sequence[str]
) -> dict[str, Any]:
    """Measure the calibration, already applied to probabilities (N, C), on photos it was not fitted to; N at least 1.

    Returns:
        `ece_uncalibrated`, 0..1: the calibration error of what the network says by itself.
        `selective`: `target_error` (null where every photo is to be answered), `thresholds` by class, `answered`
        photos, `coverage` (their share), `error` (the share of wrong answers among them) and `error_ci95`, the last
        two null where nothing is answered.
        `risk_coverage`: points {confidence, coverage, risk} from all photos to the surest ones, where every photo of at
        least that confidence is answered; `aurc`: the area under the curve through all photos.
    """
    uncalibrated = ClassificationSums.zeros(len(classes))
    uncalibrated.update(calibration.undo(probabilities), labels)
    wrong = probabilities.argmax(axis=1) != labels
    answered = ~calibration.abstains(probabilities)
    n_answered, n_wrong = int(answered.sum()), int((answered & wrong).sum())
    confidence, coverage, risk = _risk_coverage(probabilities.max(axis=1), wrong)
    return {
        "ece_uncalibrated": uncalibrated.ece,
        "selective": {
            "target_error": calibration.target_error,
            "thresholds": dict(zip(classes, calibration.thresholds, strict=True)),
            "answered": n_answered,
            "coverage": n_answered / len(labels),
            "error": n_wrong / n_answered if n_answered else None,
            "error_ci95": list(wilson_interval(n_wrong, n_answered)) if n_answered else None,
        },
        "risk_coverage": [
            {"confidence": float(confidence[i]), "coverage": float(coverage[i]), "risk": float(risk[i])}
            for i in _spread(coverage)
        ],
        "aurc": float(np.diff(coverage[::-1], prepend=0.0) @ risk[::-1]),
    }


def _risk_coverage(
    confidence: NDArray[np.floating], wrong: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return confidences, ascending, each once; the share of photos at least so sure; the share of wrong ones of these.

    Source: Geifman, Uziel and El-Yaniv, "Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers", 2019,
    section 2: the area under it is the mean, over all photos, of the risk at the photo's confidence.
    """
    values, first, counts = np.unique(confidence, return_inverse=True, return_counts=True)
    wrong_counts = np.bincount(first.ravel(), weights=wrong, minlength=len(values))
    n_answered = counts[::-1].cumsum()[::-1]
    n_wrong = wrong_counts[::-1].cumsum()[::-1]
    return values.astype(np.float64), n_answered / len(confidence), n_wrong / n_answered


def _spread(coverage: NDArray[np.float64]) -> list[int]:
    """Choose points at about even steps of coverage, both ends among them."""
    wanted = np.linspace(coverage[0], coverage[-1], MAX_CURVE_POINTS)
    # `coverage` falls; the nearest point to each step, each once.
    return sorted({int(np.abs(coverage - share).argmin()) for share in wanted})
