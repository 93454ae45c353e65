from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest

from ray_trash.config import AugmentConfig
from ray_trash.image.augment import augment_photo, augmentation_values
from ray_trash.image.preprocess import Preprocessing, fit_photo
from tests.encoded import smooth_photo

PREPROCESSING = Preprocessing(size_px=40, stored_short_side_px=64, fit="stretch")
RANDOM_PRESETS = ("seed", "dihedral", "strong")
PRESETS = (*RANDOM_PRESETS, "none")


def recipe_of(preset: str, size_px: int, **values: float) -> AugmentConfig:
    return AugmentConfig.model_validate({"preset": preset, "size_px": size_px, **values})


def augment(photo: np.ndarray, augmentation: AugmentConfig, *, seed: int = 0, epoch: int = 0, key: int = 0):
    return augment_photo(photo, augmentation, PREPROCESSING, seed=seed, epoch=epoch, photo_key=key)


def draws(photo: np.ndarray, augmentation: AugmentConfig, n: int) -> Iterable[np.ndarray]:
    return (augment(photo, augmentation, key=key) for key in range(n))


@pytest.mark.parametrize("preset", PRESETS)
def test_the_result_is_a_square_of_the_training_size(preset: str):
    for photo in (smooth_photo(), smooth_photo(64, 96), smooth_photo(1, 1), smooth_photo(300, 75)):
        before = photo.copy()
        result = augment(photo, recipe_of(preset, 56))
        assert result.shape == (56, 56, 3)
        assert result.dtype == np.uint8
        assert result.flags.c_contiguous
        assert result.flags.writeable
        np.testing.assert_array_equal(photo, before)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_same_draw_gives_the_same_photo_anywhere(preset: str):
    recipe = recipe_of(preset, 40)
    forwards = [augment(smooth_photo(), recipe, seed=3, epoch=2, key=key) for key in range(16)]
    np.random.seed(0)
    backwards = [augment(smooth_photo(), recipe, seed=3, epoch=2, key=key) for key in reversed(range(16))]
    with ThreadPoolExecutor(8) as pool:
        at_once = list(pool.map(partial(_third_draw, recipe), range(16)))
    np.testing.assert_array_equal(forwards, backwards[::-1])
    np.testing.assert_array_equal(forwards, at_once)


def _third_draw(recipe: AugmentConfig, key: int) -> np.ndarray:
    return augment(smooth_photo(), recipe, seed=3, epoch=2, key=key)


@pytest.mark.parametrize("preset", RANDOM_PRESETS)
def test_seeds_epochs_and_photos_all_draw_anew(preset: str):
    recipe = recipe_of(preset, 40)
    results = [
        augment(smooth_photo(341, 256), recipe, seed=seed, epoch=epoch, key=key).tobytes()
        for seed in range(3)
        for epoch in range(3)
        for key in (0, 1, 2, 2**40)
    ]
    assert len(set(results)) == len(results)


def test_none_is_what_evaluation_sees():
    expected = fit_photo(smooth_photo(), PREPROCESSING, size_px=32)
    for epoch in range(2):
        result = augment(smooth_photo(), recipe_of("none", 32), epoch=epoch)
        np.testing.assert_array_equal(result, expected)


def test_without_a_size_the_side_is_that_of_evaluation():
    assert augment(smooth_photo(), AugmentConfig(preset="dihedral")).shape == (40, 40, 3)


def test_the_values_tell_recipes_apart_that_change_a_photo_otherwise_and_no_others():
    values = augmentation_values(AugmentConfig(), PREPROCESSING)
    assert augmentation_values(AugmentConfig(size_px=40, views=3, mixup_alpha=0.2), PREPROCESSING) == values
    for change in ({"preset": "strong"}, {"size_px": 48}, {"crop_area_min": 0.5}, {"erase_probability": 0.1}):
        assert augmentation_values(AugmentConfig.model_validate(change), PREPROCESSING) != values


@pytest.mark.parametrize("preset", RANDOM_PRESETS)
def test_a_photo_of_one_colour_stays_one_without_colour_changes(preset: str):
    plain = np.full((60, 90, 3), (200, 30, 90), np.uint8)
    for result in draws(plain, recipe_of(preset, 40, colour_strength=0), 20):
        assert (result == (200, 30, 90)).all()


def test_seed_keeps_the_distance_to_the_centre_and_reaches_every_side():
    dot = np.zeros((41, 41, 3), np.uint8)
    dot[18:23, 31:36] = 255  # 13 right of the centre
    recipe = recipe_of("seed", 41)
    angles = []
    for result in draws(dot, recipe, 60):
        y, x = (np.average(axis, weights=result[..., 0]) - 20 for axis in np.mgrid[0:41, 0:41])
        assert np.hypot(x, y) == pytest.approx(13, abs=0.7)
        angles.append(np.arctan2(y, x))
    quadrants = np.histogram(angles, 4, (-np.pi, np.pi))[0]
    assert quadrants.min() >= 5


def test_seed_carries_the_border_outwards():
    framed = np.full((40, 40, 3), 100, np.uint8)
    framed[1:-1, 1:-1] = 0
    corners = [result[[0, 0, -1, -1], [0, -1, 0, -1], 0] for result in draws(framed, recipe_of("seed", 40), 20)]
    assert np.mean(np.array(corners) == 100) > 0.9


def test_dihedral_reaches_the_eight_symmetries_equally_often():
    photo = smooth_photo(40, 40)
    whole = recipe_of("dihedral", 40, crop_area_min=1.0)
    symmetries = [np.rot90(flipped, turns) for flipped in (photo, photo[:, ::-1]) for turns in range(4)]
    counts = [0] * 8
    for result in draws(photo, whole, 400):
        distances = [np.abs(result.astype(int) - symmetry).mean() for symmetry in symmetries]
        counts[int(np.argmin(distances))] += 1
    assert min(counts) >= 25


def test_crops_keep_their_share_of_the_photo():
    # Every pixel says where it comes from.
    y, x = np.mgrid[0:200, 0:200]
    photo = np.stack([x, y, np.zeros_like(x)], -1).astype(np.uint8)
    areas = []
    for result in draws(photo, recipe_of("dihedral", 64, crop_area_min=0.3), 200):
        sides = [np.ptp(result[..., channel].astype(int)) for channel in (0, 1)]
        areas.append(sides[0] * sides[1] / 200**2)
        assert 0.7 < sides[0] / sides[1] < 1.43
    assert 0.25 < min(areas) < 0.4
    assert 0.85 < max(areas) <= 1
    assert np.mean(areas) == pytest.approx(0.62, abs=0.06)


def test_strong_without_strength_is_dihedral():
    strong = recipe_of("strong", 40, colour_strength=0, erase_probability=0)
    for key in range(10):
        np.testing.assert_array_equal(
            augment(smooth_photo(), strong, key=key),
            augment(smooth_photo(), recipe_of("dihedral", 40), key=key),
        )


def test_strong_changes_brightness_within_its_strength():
    grey = np.full((40, 40, 3), 100, np.uint8)
    recipe = recipe_of("strong", 40, colour_strength=0.3, erase_probability=0)
    levels = [int(result[0, 0, 0]) for result in draws(grey, recipe, 60)]
    assert 69 <= min(levels) < 80
    assert 120 < max(levels) <= 131


def test_erasing_fills_a_rectangle_with_the_mean():
    photo = smooth_photo(64, 64)
    kept = recipe_of("strong", 64, colour_strength=0, erase_probability=0)
    shares = []
    for key in range(40):
        before = augment(photo, kept, key=key)
        after = augment(photo, recipe_of("strong", 64, colour_strength=0, erase_probability=1), key=key)
        changed = (before != after).any(-1)
        rows, columns = np.nonzero(changed.any(1))[0], np.nonzero(changed.any(0))[0]
        hole = after[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].reshape(-1, 3)
        assert (hole == hole[0]).all()
        assert np.abs(hole[0] - before.mean((0, 1))).max() <= 1
        shares.append(len(hole) / 64**2)
    assert min(shares) > 0.01
    assert max(shares) < 0.25


def test_erasing_happens_as_often_as_asked_for():
    recipe = recipe_of("strong", 32, colour_strength=0, erase_probability=0.25)
    never = recipe_of("strong", 32, colour_strength=0, erase_probability=0)
    erased = sum(
        not np.array_equal(augment(smooth_photo(), recipe, key=key), augment(smooth_photo(), never, key=key))
        for key in range(200)
    )
    assert 30 <= erased <= 70
