"""What is answered, how often it is wrong, and how both change with the confidence that is asked for."""

from __future__ import annotations

import numpy as np
import pytest

from ray_trash.evaluate.metrics import ClassificationSums, wilson_interval
from ray_trash.evaluate.selective import MAX_CURVE_POINTS, selective_figures
from ray_trash.model.calibration import Calibration

CLASSES = ("ant", "bee")


def answers(confidence: list[float], right: list[bool]) -> tuple[np.ndarray, np.ndarray]:
    """Photos that are all called `ant`, so surely, and so rightly."""
    first = np.array(confidence, np.float32)
    return np.stack([first, 1 - first], axis=1), np.where(right, 0, 1)


def figures(probabilities, labels, calibration: Calibration | None = None) -> dict:
    return selective_figures(probabilities, labels, calibration or Calibration.none(2), CLASSES)


def test_answers_and_mistakes_are_counted_above_the_thresholds():
    calibration = Calibration(1.0, (0.75, 0.9), 0.05, 40)
    document = figures(*answers([0.9, 0.8, 0.75, 0.7, 0.6], [True, False, True, True, False]), calibration)
    assert document["selective"] == {
        "target_error": 0.05,
        "thresholds": {"ant": 0.75, "bee": 0.9},
        "answered": 3,
        "coverage": 0.6,
        "error": pytest.approx(1 / 3),
        "error_ci95": list(wilson_interval(1, 3)),
    }


def test_where_nothing_is_answered_there_is_no_error():
    document = figures(*answers([0.9, 0.8], [True, False]), Calibration(1.0, (1.0, 1.0), 0.05, 40))
    assert (document["selective"]["answered"], document["selective"]["coverage"]) == (0, 0.0)
    assert document["selective"]["error"] is None
    assert document["selective"]["error_ci95"] is None


def test_the_curve_goes_from_all_photos_to_the_surest():
    document = figures(*answers([0.9, 0.8, 0.7, 0.6], [True, False, True, True]))
    assert [round(point["confidence"], 6) for point in document["risk_coverage"]] == [0.6, 0.7, 0.8, 0.9]
    assert [point["coverage"] for point in document["risk_coverage"]] == [1.0, 0.75, 0.5, 0.25]
    assert [point["risk"] for point in document["risk_coverage"]] == [0.25, 1 / 3, 0.5, 0.0]
    assert document["aurc"] == pytest.approx((0.25 + 1 / 3 + 0.5 + 0.0) / 4)


def test_photos_that_are_equally_sure_are_answered_together():
    document = figures(*answers([0.9, 0.7, 0.7, 0.7], [True, False, True, True]))
    assert [point["coverage"] for point in document["risk_coverage"]] == [1.0, 0.25]
    assert document["aurc"] == pytest.approx(3 / 4 * 0.25)
    swapped = figures(*answers([0.7, 0.7, 0.7, 0.9], [True, True, False, True]))
    assert swapped == document


def test_the_curve_of_many_photos_is_short_and_evenly_spread():
    random = np.random.default_rng(0)
    confidence = random.uniform(0.5, 1, 3000)
    document = figures(*answers(list(confidence), list(random.uniform(size=3000) < confidence)))
    coverage = np.array([point["coverage"] for point in document["risk_coverage"]])
    assert len(coverage) == MAX_CURVE_POINTS
    assert (coverage[0], coverage[-1]) == (1.0, 1 / 3000)
    assert np.abs(np.diff(coverage) + 1 / (MAX_CURVE_POINTS - 1)).max() < 0.001
    assert document["risk_coverage"][0]["risk"] == pytest.approx(1 - confidence.mean(), abs=0.02)
    # Sure answers are right more often, so the area is below the risk of answering all.
    assert document["aurc"] < document["risk_coverage"][0]["risk"] - 0.03


def test_one_photo_has_a_curve_of_one_point():
    document = figures(*answers([0.75], [False]))
    assert document["risk_coverage"] == [{"confidence": 0.75, "coverage": 1.0, "risk": 1.0}]
    assert document["aurc"] == 1.0


def test_the_calibration_error_before_calibration_is_that_of_what_the_network_said():
    random = np.random.default_rng(1)
    said = random.dirichlet((0.4, 0.4), 400)
    labels = random.integers(0, 2, 400)
    calibration = Calibration(2.5, (0.0, 0.0), None, 40)
    before = ClassificationSums.zeros(2)
    before.update(said, labels)
    document = figures(calibration.apply(said), labels, calibration)
    assert document["ece_uncalibrated"] == pytest.approx(before.ece, abs=1e-4)
