"""A map over a photo."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from ray_trash.image.heat import heat_over, heat_picture


def drawn(heat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    picture = np.asarray(Image.open(io.BytesIO(heat_picture(np.full((64, 64, 3), 100, np.uint8), heat))))
    return picture[:, :64], picture[:, -64:]


def test_the_photo_stays_as_it_is_beside_its_map_and_warm_is_where_the_map_is_high() -> None:
    heat = np.zeros((4, 4), np.float32)
    heat[0, 3] = 5
    plain, warm = drawn(heat)
    assert (plain == 100).all()
    red, _, blue = warm[4, 60]
    assert red > blue > 100
    assert (warm[40:, :20] == 100).all()


def test_alone_a_map_is_what_it_is_beside_the_photo() -> None:
    photo, heat = np.arange(48 * 48 * 3, dtype=np.uint8).reshape(48, 48, 3), np.eye(4, dtype=np.float32)
    beside = np.asarray(Image.open(io.BytesIO(heat_picture(photo, heat))))
    alone = np.asarray(Image.open(io.BytesIO(heat_over(photo, heat))))
    np.testing.assert_array_equal(alone, beside[:, -48:])


def test_where_nothing_speaks_for_the_answer_nothing_is_drawn() -> None:
    for heat in (np.zeros((4, 4), np.float32), np.full((4, 4), -1, np.float32)):
        assert (drawn(heat)[1] == 100).all()
