"""Pictures of nothing are the same at every call, of every kind, and counted by kind."""

from __future__ import annotations

import numpy as np
import pytest

from ray_trash.evaluate.metrics import wilson_interval
from ray_trash.evaluate.unknown import PER_KIND, draw_unknown, unknown_figures
from ray_trash.image.preprocess import Preprocessing

KINDS = ("noise", "stripes", "gradient", "shapes", "text")


@pytest.fixture(scope="module")
def drawn() -> tuple[tuple[str, ...], np.ndarray]:
    return draw_unknown(Preprocessing(64, 64, "stretch"))


def test_there_are_pictures_of_every_kind_and_no_two_are_alike(drawn):
    kinds, squares = drawn
    assert squares.shape == (PER_KIND * len(KINDS), 64, 64, 3)
    assert squares.dtype == np.uint8
    assert {kind: kinds.count(kind) for kind in KINDS} == dict.fromkeys(KINDS, PER_KIND)
    assert len({square.tobytes() for square in squares}) == len(squares)
    assert all(square.std() > 1 for square in squares)


def test_the_pictures_are_the_same_at_every_call(drawn):
    again = draw_unknown(Preprocessing(64, 64, "stretch"))
    assert again[0] == drawn[0]
    np.testing.assert_array_equal(again[1], drawn[1])


def test_pictures_that_were_not_answered_are_counted_by_kind():
    abstained = np.array([True, True, False, True])
    assert unknown_figures(("noise", "noise", "text", "text"), abstained) == {
        "n": 4,
        "abstained": 3,
        "rate": 0.75,
        "rate_ci95": list(wilson_interval(3, 4)),
        "by_kind": {"noise": {"n": 2, "abstained": 2}, "text": {"n": 2, "abstained": 1}},
    }
