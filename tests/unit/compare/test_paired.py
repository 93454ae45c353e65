"""A paired difference: counts, interval and test."""

from __future__ import annotations

import numpy as np
import pytest

from ray_trash.compare.paired import Paired


def test_the_cells_are_counted_photo_by_photo() -> None:
    first = np.array([True, True, False, False, True])
    second = np.array([True, False, True, False, False])
    assert Paired.of(first, second) == Paired(n=5, first=3, second=2, only_first=2, only_second=1)
    with pytest.raises(ValueError, match="two"):
        Paired.of(first, second[:3])


def test_mcnemar_is_the_exact_binomial_of_the_photos_that_differ() -> None:
    assert Paired(n=100, first=80, second=87, only_first=1, only_second=8).p_value == pytest.approx(20 / 512)
    assert Paired(n=100, first=80, second=80, only_first=4, only_second=4).p_value == 1.0
    assert Paired(n=100, first=80, second=80, only_first=0, only_second=0).p_value == 1.0
    assert Paired(n=100, first=80, second=87, only_first=1, only_second=8).is_significant
    assert not Paired(n=100, first=80, second=85, only_first=2, only_second=7).is_significant


def test_the_interval_of_a_large_sample_is_walds() -> None:
    # Agresti, "Categorical Data Analysis", second edition, 10.1.2: two surveys, the interval is (-0.06, -0.02).
    low, high = Paired(n=1600, first=944, second=880, only_first=150, only_second=86).difference_ci95
    assert (round(low, 2), round(high, 2)) == (-0.06, -0.02)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    n, p_lost, p_gained, held = 80, 0.05, 0.12, 0
    for _ in range(2000):
        lost, gained, _ = random.multinomial(n, [p_lost, p_gained, 1 - p_lost - p_gained])
        low, high = Paired(n, 0, 0, int(lost), int(gained)).difference_ci95
        held += low <= p_gained - p_lost <= high
    assert 0.93 <= held / 2000 <= 0.98


def test_where_nothing_differs_the_interval_says_how_little_few_photos_show() -> None:
    low, high = Paired(n=10, first=9, second=9, only_first=0, only_second=0).difference_ci95
    assert low < 0 < high
    assert (low, high) == (-high, high)
