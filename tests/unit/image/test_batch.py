"""A batch changed by torch against each of its photos changed by Pillow."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ray_trash.config import AugmentConfig
from ray_trash.image.augment import augment_photo, draw_change
from ray_trash.image.batch import as_values, change_photos
from ray_trash.image.preprocess import Fit, Preprocessing
from tests.encoded import smooth_photo

SIZES = [(64, 64), (64, 86), (86, 64), (50, 64), (30, 20), (96, 64)]
N_DRAWS = 4


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def both_ways(
    config: AugmentConfig, photos: list[np.ndarray], *, fit: Fit = "stretch"
) -> tuple[np.ndarray, np.ndarray]:
    preprocessing, seed, epoch = Preprocessing(40, 64, fit), 3, 2
    height, width = (max(photo.shape[side] for photo in photos) for side in (0, 1))
    stored = np.full((len(photos), height, width, 3), 77, np.uint8)  # what lies beyond a photo is not black
    for place, photo in zip(stored, photos, strict=True):
        place[: photo.shape[0], : photo.shape[1]] = photo
    drawn = [
        draw_change(len(photo), len(photo[0]), config, preprocessing, seed=seed, epoch=epoch, photo_key=key)
        for key, photo in enumerate(photos)
    ]
    side_px = config.size_px or preprocessing.size_px
    values = torch.from_numpy(as_values(drawn))
    batch = change_photos(torch.from_numpy(stored), values, preset=config.preset, side_px=side_px)
    assert batch.shape == (len(photos), side_px, side_px, 3)
    assert batch.dtype == torch.uint8
    assert batch.is_contiguous()
    alone = [
        augment_photo(photo, config, preprocessing, seed=seed, epoch=epoch, photo_key=key)
        for key, photo in enumerate(photos)
    ]
    return batch.numpy().astype(int), np.stack(alone).astype(int)


def recipe(preset: str, **values: float) -> AugmentConfig:
    return AugmentConfig.model_validate({"preset": preset, **values})


# Where a level is half way between two, Pillow's whole-number weights and float32 may round otherwise: on noise that
# is scaled by a simple ratio, up to one in twenty.
@pytest.mark.parametrize(("make", "most"), [(smooth_photo, 0.005), (noise, 0.05)])
@pytest.mark.parametrize("size_px", [32, 40, 100])
@pytest.mark.parametrize("preset", ["none", "dihedral", "seed"])
def test_a_batch_differs_from_its_photos_by_one_level_at_most(preset: str, size_px: int, make, most: float) -> None:
    photos = [make(*size) for size in SIZES * N_DRAWS]
    batch, alone = both_ways(recipe(preset, size_px=size_px), photos)
    difference = np.abs(batch - alone)
    assert difference.max() <= 1
    assert (difference > 0).mean() < most


@pytest.mark.parametrize("make", [smooth_photo, noise])
def test_with_colours_and_erasing_by_four_levels_at_most_and_a_fiftieth_of_one_on_average(make) -> None:
    photos = [make(*size) for size in SIZES * N_DRAWS]
    batch, alone = both_ways(recipe("strong", erase_probability=0.5), photos)
    difference = np.abs(batch - alone)
    assert difference.max() <= 4
    assert difference.mean() < 0.02


def test_the_central_square_is_taken_where_photos_are_cropped_to_fit() -> None:
    batch, alone = both_ways(recipe("none"), [noise(*size) for size in SIZES], fit="crop")
    assert np.abs(batch - alone).max() <= 1


def test_a_photo_of_one_colour_stays_exactly_so_and_nothing_beyond_it_shows() -> None:
    photos = [np.full((height, width, 3), (9, 200, 255), np.uint8) for height, width in SIZES * N_DRAWS]
    for preset in ("none", "dihedral", "seed"):
        batch, _ = both_ways(recipe(preset), photos)
        assert (batch == (9, 200, 255)).all()


@pytest.mark.gpu
@pytest.mark.parametrize("preset", ["none", "dihedral", "seed", "strong"])
def test_a_gpu_changes_photos_as_a_cpu_does(preset: str) -> None:
    config, preprocessing = recipe(preset), Preprocessing(40, 64, "stretch")
    photos = torch.from_numpy(np.stack([noise(64, 86) + number for number in range(16)]))
    drawn = [draw_change(64, 86, config, preprocessing, seed=0, epoch=0, photo_key=key) for key in range(16)]
    values = torch.from_numpy(as_values(drawn))
    on_cpu = change_photos(photos, values, preset=preset, side_px=40)
    on_gpu = change_photos(photos.cuda(), values.cuda(), preset=preset, side_px=40).cpu()
    difference = (on_cpu.int() - on_gpu.int()).abs()
    assert difference.max() <= (4 if preset == "strong" else 1)
    assert (difference > 0).float().mean() < 0.02
