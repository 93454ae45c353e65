"""How sure an answer is: probabilities that mean what they say, and a confidence below which there is no answer.

Letters in shapes: N photos, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.2, 5.0
"""A temperature outside says more about too few photos than about the network."""
POOLED_PHOTOS = 10
"""Pseudo-count: a class's error rate is shrunk towards the overall rate as if 10 photos of it had that rate."""
KNOWN_SHARE = 0.97
"""A class's threshold is raised until it rejects 3 % of the correct validation answers, even where the target error
needs less: photos of unknown things rarely reach that confidence."""
_FLOOR = 1e-30


@dataclass(frozen=True)
class Calibration:
    """From a network's probabilities to the answers that are given; stored in the checkpoint.

    Attributes:
        temperature: Logarithms of probabilities are divided by it; 1 changes nothing.
        thresholds: Per class, in order; an answer that is less confident is "not sure".
        target_error: Share of wrong answers the thresholds keep, on the `n` photos they were fitted on; None where
            every photo is answered.
        answer_shares: Per class, its share of those `n` as an answer that is given; what is left to 1 is "not sure".
            Empty where nobody counted.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    temperature: Annotated[float, Field(gt=0)]
    thresholds: tuple[Annotated[float, Field(ge=0, le=1)], ...]
    target_error: Annotated[float, Field(gt=0, lt=1)] | None
    n: Annotated[int, Field(ge=0)]
    answer_shares: tuple[Annotated[float, Field(ge=0, le=1)], ...] = ()

    @classmethod
    def none(cls, n_classes: int) -> Calibration:
        """Change no probability and answer every photo."""
        return cls(1.0, (0.0,) * n_classes, None, 0)

    def apply(self, probabilities: NDArray[np.floating]) -> NDArray[np.float32]:
        """Divide the logarithms of probabilities (N, C) by the temperature; rows still add up to 1, in the same order.

        Source: Guo et al., "On Calibration of Modern Neural Networks", 2017.
        """
        return _with_temperature(probabilities, self.temperature).astype(np.float32)

    def undo(self, probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the network's probabilities (N, C), from what `apply` made of them.

        Exact, since dividing logarithms by 1/T multiplies them by T.
        """
        return _with_temperature(probabilities, 1 / self.temperature)

    def abstains(self, probabilities: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Say, of probabilities (N, C) as `apply` gives them, where (N,) the likeliest class is below its threshold."""
        thresholds = np.asarray(self.thresholds, np.float32)[probabilities.argmax(axis=1)]
        return np.asarray(probabilities.max(axis=1) < thresholds)


def fit_calibration(
    probabilities: NDArray[np.floating], labels: NDArray[np.integer], *, target_error: float | None
) -> Calibration:
    """Fit temperature and thresholds to validation photos.

    The temperature is the one under which the labels are most likely. The threshold of a class is the lowest
    confidence from which on its answers are wrong no more often than `target_error`, and at least the confidence that
    `KNOWN_SHARE` of its right answers have. Probabilities (N, C) are the network's, before any temperature; without a
    target every photo is answered.

    Source of the thresholds: Geifman and El-Yaniv, "Selective Classification for Deep Neural Networks", 2017, with
    the counts of a class drawn towards those of all classes instead of a bound that small sets never reach.
    """
    n, n_classes = probabilities.shape
    if n == 0:
        return Calibration.none(n_classes)
    temperature = _fit_temperature(probabilities, labels)
    calibrated = _with_temperature(probabilities, temperature)
    if target_error is None:
        return _with_answer_shares(Calibration(temperature, (0.0,) * n_classes, None, n), calibrated)
    predicted, confidence = calibrated.argmax(axis=1), calibrated.max(axis=1)
    right = predicted == labels
    thresholds = tuple(
        max(
            _lowest_safe_confidence(confidence, right, predicted == number, target_error),
            _confidence_of_known(confidence, right, predicted == number),
        )
        for number in range(n_classes)
    )
    return _with_answer_shares(Calibration(temperature, thresholds, target_error, n), calibrated)


def _with_answer_shares(calibration: Calibration, calibrated: NDArray[np.float64]) -> Calibration:
    given = calibrated.argmax(axis=1)[~calibration.abstains(calibrated.astype(np.float32))]
    counts = np.bincount(given, minlength=calibrated.shape[1])
    return replace(calibration, answer_shares=tuple((counts / len(calibrated)).tolist()))


def _fit_temperature(probabilities: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    # Whoever only answers has no use for the half second that this takes.
    from scipy.optimize import minimize_scalar

    rows = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        calibrated = _with_temperature(probabilities, float(np.exp(log_temperature)))
        return float(-np.log(np.maximum(calibrated[rows, labels], _FLOOR)).mean())

    bounds = (np.log(MIN_TEMPERATURE), np.log(MAX_TEMPERATURE))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x))


def _with_temperature(probabilities: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    logits = np.log(np.maximum(probabilities.astype(np.float64), _FLOOR)) / temperature
    likelihood = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(likelihood / likelihood.sum(axis=1, keepdims=True))


def _lowest_safe_confidence(
    confidence: NDArray[np.float64], right: NDArray[np.bool_], of_class: NDArray[np.bool_], target_error: float
) -> float:
    for threshold in np.unique(np.append(confidence, 0.0)):
        answered = confidence >= threshold
        pooled_error = float((~right[answered]).mean()) if answered.any() else 0.0
        wrong, given = int((answered & of_class & ~right).sum()), int((answered & of_class).sum())
        if (wrong + POOLED_PHOTOS * pooled_error) / (given + POOLED_PHOTOS) <= target_error:
            return float(threshold)
    return 1.0


def _confidence_of_known(
    confidence: NDArray[np.float64], right: NDArray[np.bool_], of_class: NDArray[np.bool_]
) -> float:
    known = confidence[right & of_class]
    if len(known) < POOLED_PHOTOS:
        known = confidence[right]
    return float(np.quantile(known, 1 - KNOWN_SHARE, method="lower")) if len(known) else 0.0
