from __future__ import annotations

import numpy as np
import pytest

from ray_trash.model.calibration import MIN_TEMPERATURE, Calibration, fit_calibration


def sharpened(n: int, sharpness: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that are right as often as they say, then made surer by a power. Returns them and the labels."""
    random = np.random.default_rng(seed)
    honest = random.dirichlet((0.4, 0.4, 0.4), n)
    labels = (random.random((n, 1)) > honest.cumsum(axis=1)).sum(axis=1).clip(max=2)
    sharp = honest**sharpness
    return sharp / sharp.sum(axis=1, keepdims=True), labels


def test_the_temperature_undoes_false_confidence():
    for sharpness in (0.5, 1.0, 2.0):
        calibration = fit_calibration(*sharpened(20_000, sharpness), target_error=None)
        assert calibration.temperature == pytest.approx(sharpness, rel=0.05)


def test_calibrated_rows_add_up_to_one_and_keep_their_order():
    probabilities, _ = sharpened(500, 1.0)
    calibrated = Calibration(3.0, (0.0,) * 3, None, 1).apply(probabilities)
    assert calibrated.dtype == np.float32
    np.testing.assert_allclose(calibrated.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(calibrated.argmax(axis=1), probabilities.argmax(axis=1))
    np.testing.assert_allclose(Calibration.none(3).apply(probabilities), probabilities, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_what_the_network_said_can_be_had_back(temperature):
    probabilities, _ = sharpened(500, 1.0)
    calibration = Calibration(temperature, (0.0,) * 3, None, 1)
    np.testing.assert_allclose(calibration.undo(calibration.apply(probabilities)), probabilities, atol=1e-5)


@pytest.mark.parametrize("target_error", [0.02, 0.05, 0.2])
def test_answers_on_new_photos_are_wrong_about_as_often_as_was_asked(target_error):
    probabilities, labels = sharpened(5000, 2.0)
    calibration = fit_calibration(probabilities, labels, target_error=target_error)
    fresh, truth = sharpened(20_000, 2.0, seed=1)
    calibrated = calibration.apply(fresh)
    answered = ~calibration.abstains(calibrated)
    assert answered.mean() > 0.1
    assert (calibrated.argmax(axis=1) != truth)[answered].mean() < 1.3 * target_error


def test_a_class_that_is_often_wrong_gets_a_higher_threshold_than_one_that_is_not():
    random = np.random.default_rng(0)
    confidence = random.uniform(0.5, 1, 2000)
    predicted = np.arange(2000) % 2
    # The first class is right as often as it says, the second always.
    right = (random.uniform(size=2000) < confidence) | (predicted == 1)
    labels = np.where(right, predicted, 1 - predicted)
    probabilities = np.where(predicted[:, None] == np.arange(2), confidence[:, None], 1 - confidence[:, None])
    first, second = fit_calibration(probabilities, labels, target_error=0.05).thresholds
    assert first > second + 0.1


def test_a_perfect_network_still_turns_away_what_is_less_sure_than_almost_all_it_knows():
    random = np.random.default_rng(0)
    labels = np.arange(600) % 3
    sure = random.uniform(0.9, 0.99, 600)
    probabilities = np.where(labels[:, None] == np.arange(3), sure[:, None], (1 - sure[:, None]) / 2)
    calibration = fit_calibration(probabilities, labels, target_error=0.05)
    assert calibration.abstains(calibration.apply(probabilities)).mean() == pytest.approx(0.03, abs=0.01)
    unknown = np.full((1, 3), 1 / 3) + np.array([[0.3, -0.15, -0.15]])
    assert calibration.abstains(calibration.apply(unknown)).all()


def test_where_no_confidence_is_safe_nothing_is_answered():
    probabilities, _ = sharpened(300, 1.0)
    wrong = (probabilities.argmax(axis=1) + 1) % 3
    calibration = fit_calibration(probabilities, wrong, target_error=0.05)
    assert calibration.thresholds == (1.0, 1.0, 1.0)


def test_no_photos_calibrate_nothing_and_no_target_answers_everything():
    assert fit_calibration(np.zeros((0, 2)), np.zeros(0, int), target_error=0.05) == Calibration.none(2)
    probabilities, labels = sharpened(100, 1.0)
    assert fit_calibration(probabilities, labels, target_error=None).thresholds == (0.0, 0.0, 0.0)


def test_four_photos_do_not_make_a_network_certain():
    calibration = fit_calibration(np.eye(2)[[0, 1, 0, 1]] * 0.8 + 0.1, np.array([0, 1, 0, 1]), target_error=0.05)
    assert calibration.temperature == pytest.approx(MIN_TEMPERATURE, rel=0.01)
