"""A sketch keeps what tells two photos of one shot from two others, and how the photo was taken."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFilter

from ray_trash.image.sketch import KEYPOINTS_MAX, mirrored, sketch_photo
from tests.bursts import draw_scene

SCENE = draw_scene(np.random.default_rng(5))


def pixels(image: Image.Image) -> np.ndarray:
    return np.array(image)


def test_the_keypoints_of_a_mirror_image_are_the_mirrored_keypoints() -> None:
    here = sketch_photo(pixels(SCENE))
    there = sketch_photo(pixels(SCENE.transpose(Image.Transpose.FLIP_LEFT_RIGHT)))
    distances = np.linalg.norm(
        here.descriptors[:, None].astype(float) - mirrored(there.descriptors)[None].astype(float), axis=2
    )
    assert np.median(distances.min(axis=1)) < 30
    unturned = np.linalg.norm(here.descriptors[:, None].astype(float) - there.descriptors[None].astype(float), axis=2)
    assert np.median(unturned.min(axis=1)) > 100


def test_mirroring_twice_changes_nothing() -> None:
    descriptors = sketch_photo(pixels(SCENE)).descriptors
    np.testing.assert_array_equal(mirrored(mirrored(descriptors)), descriptors)


def test_the_strongest_keypoints_are_kept_and_no_more_than_the_most() -> None:
    sketch = sketch_photo(pixels(SCENE))
    assert sketch.points.shape == (KEYPOINTS_MAX, 2)
    assert sketch.descriptors.shape == (KEYPOINTS_MAX, 128)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 4, 3), (300, 2, 3), (48, 64, 3)])
def test_any_photo_has_a_sketch(shape: tuple[int, ...]) -> None:
    sketch = sketch_photo(np.full(shape, 200, np.uint8))
    assert len(sketch.points) == 0
    assert sketch.thumbnail.shape == (24, 32, 3)
    assert (sketch.corners == 200).all()
    assert (sketch.sharpness, sketch.contrast, sketch.bright_share) == (0, 0, 0)


def test_the_corners_are_those_of_the_photo() -> None:
    photo = np.zeros((80, 80, 3), np.uint8)
    photo[:20, :20], photo[:20, 60:], photo[60:, :20], photo[60:, 60:] = 10, 20, 30, 40
    assert sketch_photo(photo).corners[:, 0].tolist() == [10, 20, 30, 40]


def test_blur_and_exposure_show() -> None:
    sharp, blurred = sketch_photo(pixels(SCENE)), sketch_photo(pixels(SCENE.filter(ImageFilter.GaussianBlur(6))))
    assert blurred.sharpness < 5 < 100 < sharp.sharpness
    assert sketch_photo(np.full((50, 50, 3), 255, np.uint8)).bright_share == 1
    assert sketch_photo(np.zeros((50, 50, 3), np.uint8)).dark_share == 1
