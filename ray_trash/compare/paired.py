"""Right and wrong answers of two sides to the same photos: the difference, its interval and its test."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ray_trash.evaluate.metrics import Z_95

SIGNIFICANT_BELOW = 0.05
"""The p-value from which on a difference is called none."""


@dataclass(frozen=True)
class Paired:
    """How two sides did on the same photos, counted; the others are right, or wrong, on both.

    Attributes:
        n: Photos.
        first: Photos that the first side gets right, and `second` the second.
        only_first: Photos that the first side alone gets right, and `only_second` the second alone.
    """

    n: int
    first: int
    second: int
    only_first: int
    only_second: int

    @classmethod
    def of(cls, first: NDArray[np.bool_], second: NDArray[np.bool_]) -> Paired:
        """Count (N,) bool each: whether a side is right on each photo, the photos in the same order."""
        if first.shape != second.shape or first.ndim != 1:
            raise ValueError(f"expected two (N,), got {first.shape} and {second.shape}")
        only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
        return cls(len(first), int(first.sum()), int(second.sum()), only_first, only_second)

    @property
    def difference(self) -> float:
        """Accuracy of the second side less that of the first, -1..1; there must be a photo."""
        return (self.only_second - self.only_first) / self.n

    @property
    def difference_ci95(self) -> tuple[float, float]:
        """The 95 % interval of `difference`.

        Source: Agresti and Min 2005, "Simple improved confidence intervals for comparing matched proportions",
        Statistics in Medicine 24, 729-740: Wald's interval with half a photo more in each of the four cells.
        """
        n, gained, lost = self.n + 2, self.only_second + 0.5, self.only_first + 0.5
        centre = (gained - lost) / n
        half_width = Z_95 * math.sqrt(gained + lost - (gained - lost) ** 2 / n) / n
        return max(-1.0, centre - half_width), min(1.0, centre + half_width)

    @property
    def p_value(self) -> float:
        """How often sides that are equally good would differ as much or more: McNemar's exact test, two-sided.

        Source: McNemar 1947, "Note on the sampling error of the difference between correlated proportions or
        percentages", Psychometrika 12, 153-157; exact by the binomial distribution of the photos that differ.
        """
        differing = self.only_first + self.only_second
        if not differing:
            return 1.0
        from scipy.stats import binomtest

        return float(binomtest(self.only_second, differing, 0.5).pvalue)

    @property
    def is_significant(self) -> bool:
        """Whether the difference is more than chance explains."""
        return self.p_value < SIGNIFICANT_BELOW
