"""Classification quality as sums: add over batches and workers, divide once; and the one table of metrics.

Letters in shapes: B photos of a batch, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

N_CALIBRATION_BINS = 15
"""Equal-width confidence bins of the ECE. Source: Guo et al. 2017, https://arxiv.org/abs/1706.04599, M = 15."""
PROBABILITY_FLOOR = 1e-12
"""Probabilities are raised to this before the logarithm: one certain mistake costs 27.6 nats, not infinity."""

Direction = Literal["min", "max"]

Z_95 = 1.959963984540054
"""The 0.975 quantile of the standard normal distribution."""


def wilson_interval(k: int, n: int) -> tuple[float, float]:
    """Return the low and high end of the 95 % score interval of a proportion: k successes of n trials, n at least 1.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference", JASA 22, 209-212.
    """
    if not 0 <= k <= n or n == 0:
        raise ValueError(f"wilson_interval: {k} successes of {n} trials")
    share = k / n
    z2 = Z_95 * Z_95
    centre = share + z2 / (2 * n)
    half_width = Z_95 * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    scale = 1 + z2 / n
    # The ends are exactly 0 and 1 there; rounding would leave 1e-17 and 0.9999999999999999.
    low = 0.0 if k == 0 else (centre - half_width) / scale
    high = 1.0 if k == n else (centre + half_width) / scale
    return low, high


@dataclass
class ClassificationSums:
    """Everything that is counted about scored photos, with nothing divided yet.

    Two of these over different photos add up with `merge`; the counts are then exact under any grouping, the float
    sums up to rounding. A probability that is NaN makes `loss` and `ece` NaN, through `merge` and `to_array` too, so
    that every worker sees it; check `loss` before trusting the rest.

    Attributes:
        confusion: (C, C) int64, rows true, columns predicted.
        loss_sum: Negative log-likelihood of the true classes, in nats.
        bin_n: (15,) int64, photos by confidence; bin i holds the confidences in (i/15, (i+1)/15].
        bin_confidence_sum: (15,) float64.
        bin_correct: (15,) int64.
    """

    confusion: NDArray[np.int64]
    loss_sum: float
    bin_n: NDArray[np.int64]
    bin_confidence_sum: NDArray[np.float64]
    bin_correct: NDArray[np.int64]

    @classmethod
    def zeros(cls, n_classes: int) -> Self:
        """Start with no photos."""
        return cls.from_array(np.zeros(n_classes**2 + 1 + 3 * N_CALIBRATION_BINS))

    def update(
        self, probabilities: NDArray[np.floating], labels: NDArray[np.integer], *, loss_sum: float | None = None
    ) -> None:
        """Count a batch of (B, C) probabilities and (B,) labels; the first of the most probable classes is predicted.

        `loss_sum` is the batch's summed loss where it was computed elsewhere, for instance from logits.
        """
        n_classes = len(self.confusion)
        if probabilities.ndim != 2 or probabilities.shape[1] != n_classes or labels.shape != probabilities.shape[:1]:
            raise ValueError(
                f"expected probabilities (B, {n_classes}) and labels (B,), got {probabilities.shape} and {labels.shape}"
            )
        if not len(labels):
            return
        if labels.min() < 0 or labels.max() >= n_classes:
            raise ValueError(f"labels must be 0..{n_classes - 1}, got {labels.min()}..{labels.max()}")
        predicted = probabilities.argmax(axis=1)  # (B,)
        confidence = probabilities.max(axis=1).astype(np.float64)  # (B,)
        np.add.at(self.confusion, (labels, predicted), 1)
        if loss_sum is None:
            true_probability = probabilities[np.arange(len(labels)), labels].astype(np.float64)
            loss_sum = float(-np.log(np.clip(true_probability, PROBABILITY_FLOOR, 1.0)).sum())
        self.loss_sum += loss_sum
        # A NaN confidence goes to bin 0, whose sum it makes NaN.
        edges = np.nan_to_num(np.ceil(confidence * N_CALIBRATION_BINS))
        bins = np.clip(edges - 1, 0, N_CALIBRATION_BINS - 1).astype(np.int64)
        np.add.at(self.bin_n, bins, 1)
        np.add.at(self.bin_confidence_sum, bins, confidence)
        np.add.at(self.bin_correct, bins, (predicted == labels).astype(np.int64))

    def merge(self, other: ClassificationSums) -> None:
        """Add what another worker counted over other photos."""
        if self.confusion.shape != other.confusion.shape:
            raise ValueError(f"cannot add {len(other.confusion)} classes to {len(self.confusion)}")
        self.confusion += other.confusion
        self.loss_sum += other.loss_sum
        self.bin_n += other.bin_n
        self.bin_confidence_sum += other.bin_confidence_sum
        self.bin_correct += other.bin_correct

    def to_array(self) -> NDArray[np.float64]:
        """Flatten into (C*C + 46,) float64, for an all-reduce that adds; counts below 2**53 are exact in it."""
        sums = (self.confusion.ravel(), [self.loss_sum], self.bin_n, self.bin_confidence_sum, self.bin_correct)
        return np.concatenate([np.asarray(values, np.float64) for values in sums])

    @classmethod
    def from_array(cls, array: NDArray[np.float64]) -> Self:
        """Rebuild from what `to_array` gives, or from the sum of several."""
        n_cells = array.size - 1 - 3 * N_CALIBRATION_BINS
        n_classes = math.isqrt(max(n_cells, 0))
        if array.ndim != 1 or n_classes * n_classes != n_cells:
            raise ValueError(f"a vector of shape {array.shape} holds no classification sums")
        ends = np.cumsum([n_cells, 1, N_CALIBRATION_BINS, N_CALIBRATION_BINS])
        confusion, loss_sum, bin_n, bin_confidence_sum, bin_correct = np.split(array, ends)
        return cls(
            confusion=np.rint(confusion).astype(np.int64).reshape(n_classes, n_classes),
            loss_sum=float(loss_sum[0]),
            bin_n=np.rint(bin_n).astype(np.int64),
            bin_confidence_sum=bin_confidence_sum.astype(np.float64),
            bin_correct=np.rint(bin_correct).astype(np.int64),
        )

    @property
    def n(self) -> int:
        """Photos counted."""
        return int(self.confusion.sum())

    @property
    def correct(self) -> int:
        """Photos whose prediction is the true class."""
        return int(np.trace(self.confusion))

    @property
    def accuracy(self) -> float:
        """Share of photos that are right, 0..1."""
        return self.correct / self._n_or_raise()

    @property
    def accuracy_ci95(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the accuracy."""
        return wilson_interval(self.correct, self._n_or_raise())

    @property
    def loss(self) -> float:
        """Mean negative log-likelihood of the true class, in nats."""
        return self.loss_sum / self._n_or_raise()

    @property
    def ece(self) -> float:
        """Expected calibration error, 0..1: the bins' mean gap of accuracy and confidence, weighted by photos.

        Source: Guo et al. 2017, https://arxiv.org/abs/1706.04599, equation 3.
        """
        return float(np.abs(self.bin_correct - self.bin_confidence_sum).sum()) / self._n_or_raise()

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the classes that have true photos, 0..1.

        A class without true photos does not count: its recall does not exist, and what was wrongly predicted as it
        already lowers the recall of the classes it was taken from.
        """
        self._n_or_raise()
        return float(np.mean([self._f1(c) for c in range(len(self.confusion)) if self.confusion[c].any()]))

    def per_class(self, classes: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Score each class by its name, given in label order; None where there is nothing to divide by."""
        scores: dict[str, dict[str, Any]] = {}
        for c, name in enumerate(classes):
            hits = int(self.confusion[c, c])
            n, predicted = int(self.confusion[c].sum()), int(self.confusion[:, c].sum())
            scores[name] = {
                "n": n,
                "precision": hits / predicted if predicted else None,
                "recall": hits / n if n else None,
                "f1": self._f1(c) if n + predicted else None,
                "recall_ci95": list(wilson_interval(hits, n)) if n else None,
            }
        return scores

    def _f1(self, c: int) -> float:
        # Equal to the harmonic mean of precision and recall, and 0 where that would be 0/0.
        true_and_predicted = int(self.confusion[c].sum() + self.confusion[:, c].sum())
        return 2 * int(self.confusion[c, c]) / true_and_predicted

    def _n_or_raise(self) -> int:
        n = self.n
        if n == 0:
            raise ValueError("no photo was counted, so there is nothing to divide by")
        return n


@dataclass(frozen=True)
class Metric:
    """One number about scored photos.

    Attributes:
        direction: Which way is better. Default: neither, it is a count.
        can_select: Whether `train.select_by` and `train.monitor` take it; the config lists these once more.
        every_epoch: Whether an epoch's validation reports it, not an evaluation alone.
    """

    read: Callable[[ClassificationSums], float]
    direction: Direction | None = None
    can_select: bool = False
    every_epoch: bool = True


METRICS: Mapping[str, Metric] = {
    "n": Metric(lambda sums: sums.n),
    "correct": Metric(lambda sums: sums.correct),
    "accuracy": Metric(lambda sums: sums.accuracy, "max"),
    "macro_f1": Metric(lambda sums: sums.macro_f1, "max", can_select=True),
    "loss": Metric(lambda sums: sums.loss, "min", can_select=True),
    "ece": Metric(lambda sums: sums.ece, "min", every_epoch=False),
}
"""Every metric by its key in `evaluation.json`, in the file's order; an epoch's record has `val_` in front."""

_OF_AN_EPOCH = sorted(
    (name for name, metric in METRICS.items() if metric.every_epoch),
    key=lambda name: ("min", "max", None).index(METRICS[name].direction),
)
VALIDATION_FIGURES = tuple(f"val_{name}" for name in _OF_AN_EPOCH if METRICS[name].direction)
"""Keys of an epoch's record that make curves and a line on a terminal: all but the counts."""


def validation_record(sums: ClassificationSums) -> dict[str, float]:
    """Return what an epoch's record says of validation: `VALIDATION_FIGURES`, then counts."""
    return {f"val_{name}": METRICS[name].read(sums) for name in _OF_AN_EPOCH}


def direction_of(metric: str) -> Direction:
    """Say whether a key of an epoch's record, such as `val_loss` or `train_loss`, is better low or high."""
    direction = METRICS[metric.removeprefix("val_").removeprefix("train_")].direction
    assert direction is not None, f"{metric} is a count"
    return direction
