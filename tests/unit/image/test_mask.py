"""Hiding the border and hiding the centre leave exactly the other part."""

from __future__ import annotations

import numpy as np
import pytest

from ray_trash.image.mask import mask_photo
from ray_trash.image.preprocess import Preprocessing

PREPROCESSING = Preprocessing(size_px=60, stored_short_side_px=60, fit="stretch")
MEAN = np.rint(np.array(PREPROCESSING.mean) * 255).astype(np.uint8)


@pytest.fixture
def square() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (60, 60, 3)).astype(np.uint8)


def test_the_two_masks_share_the_photo_out_between_them(square: np.ndarray) -> None:
    before = square.copy()
    border, centre = (mask_photo(square, mask, PREPROCESSING) for mask in ("border", "centre"))
    inside = np.zeros((60, 60), bool)
    inside[10:50, 10:50] = True
    np.testing.assert_array_equal(border[inside], square[inside])
    np.testing.assert_array_equal(centre[~inside], square[~inside])
    assert (border[~inside] == MEAN).all()
    assert (centre[inside] == MEAN).all()
    np.testing.assert_array_equal(square, before)


def test_no_mask_is_the_photo(square: np.ndarray) -> None:
    assert mask_photo(square, None, PREPROCESSING) is square
