"""What training changes in a photo, the same for the same (seed, epoch, photo) on any worker."""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageEnhance

from ray_trash.config import AugmentConfig
from ray_trash.image.preprocess import Preprocessing, fit_photo
from ray_trash.image.symmetry import SYMMETRIES

_ROTATION_MAX_DEGREES = 90.0

_CROP_TRIES = 10
_CROP_ASPECT = (3 / 4, 4 / 3)
"""Source of both: torchvision.transforms.RandomResizedCrop; our last resort is the whole photo."""

_ERASE_AREA = (0.02, 0.2)
_ERASE_ASPECT = (0.3, 3.3)
"""Source: torchvision.transforms.RandomErasing, with at most a fifth of the photo instead of a third."""

_DRAWN_SYMMETRIES = (None, *sorted(one.transpose for one in SYMMETRIES if one.transpose is not None))
"""In the order that draws number them: Pillow's."""

_OTHER_KEYS = {"views", "mixup_alpha", "cutmix_alpha"}
"""Keys of `AugmentConfig` that change no single photo: how many draws there are, and what is done to whole batches."""


def augmentation_values(config: AugmentConfig, preprocessing: Preprocessing) -> dict[str, Any]:
    """Return, as JSON values, what a photo from `augment_photo` depends on besides seed, epoch and the photo."""
    size_px = config.size_px or preprocessing.size_px
    return {**config.model_dump(mode="json", exclude=_OTHER_KEYS), "size_px": size_px}


def augment_photo(
    photo: np.ndarray, config: AugmentConfig, preprocessing: Preprocessing, *, seed: int, epoch: int, photo_key: int
) -> np.ndarray:
    """Change a photo (height, width, 3), uint8, RGB, at random to a C-contiguous square; equal for equal arguments.

    The preprocessing says how the square is made where the recipe has no random crop, and its side where the recipe has
    none. Seed, epoch and the key that tells photos apart are at least 0.
    """
    side_px = config.size_px or preprocessing.size_px
    if config.preset == "none":
        return fit_photo(photo, preprocessing, size_px=side_px)
    rng = np.random.default_rng((seed, epoch, photo_key))
    if config.preset == "seed":
        return np.array(_rotated_and_flipped(fit_photo(photo, preprocessing, size_px=side_px), rng))
    image = _cropped(photo, config.crop_area_min, side_px, rng)
    symmetry = _DRAWN_SYMMETRIES[rng.integers(len(_DRAWN_SYMMETRIES))]
    if symmetry is not None:
        image = image.transpose(symmetry)
    if config.preset == "strong":
        image = _recoloured(image, config.colour_strength, rng)
        if rng.random() < config.erase_probability:
            _erase(image, rng)
    return np.array(image)


def _rotated_and_flipped(square: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """Rotate about the centre, the border carried outwards, then flip either way with probability 1/2.

    Source: Keras ImageDataGenerator with rotation_range, fill_mode="nearest" and both flips.
    """
    side_px = len(square)
    # Half a diagonal reaches this far beyond the border, and bilinear sampling looks one pixel further.
    margin_px = math.ceil((math.sqrt(2) - 1) / 2 * side_px) + 1
    angle = math.radians(rng.uniform(-_ROTATION_MAX_DEGREES, _ROTATION_MAX_DEGREES))
    cos, sin = math.cos(angle), math.sin(angle)
    flip_x, flip_y = (-1 if rng.random() < 0.5 else 1 for _ in range(2))
    # Output pixel to input pixel, both about the centre: the flip first, then the rotation.
    a, b, d, e = cos * flip_x, -sin * flip_y, sin * flip_x, cos * flip_y
    centre, padded_centre = side_px / 2, side_px / 2 + margin_px
    offset_x = padded_centre - (a + b) * centre
    offset_y = padded_centre - (d + e) * centre
    # Ten times faster than np.pad(mode="edge") at 224 pixels.
    padded = cv2.copyMakeBorder(square, *(margin_px,) * 4, cv2.BORDER_REPLICATE)
    return Image.fromarray(padded).transform(
        (side_px, side_px), Image.Transform.AFFINE, (a, b, offset_x, d, e, offset_y), Image.Resampling.BILINEAR
    )


def _cropped(photo: np.ndarray, area_min: float, side_px: int, rng: np.random.Generator) -> Image.Image:
    height, width = photo.shape[:2]
    left, top, crop_width, crop_height = 0, 0, width, height
    for _ in range(_CROP_TRIES):
        area = rng.uniform(area_min, 1.0) * height * width
        aspect = math.exp(rng.uniform(math.log(_CROP_ASPECT[0]), math.log(_CROP_ASPECT[1])))
        tried_width, tried_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < tried_width <= width and 0 < tried_height <= height:
            crop_width, crop_height = tried_width, tried_height
            left = int(rng.integers(width - crop_width + 1))
            top = int(rng.integers(height - crop_height + 1))
            break
    # Cut first: a resize of a box would look at pixels beyond it.
    crop = Image.fromarray(photo[top : top + crop_height, left : left + crop_width])
    return crop.resize((side_px, side_px), Image.Resampling.BILINEAR)


def _recoloured(image: Image.Image, strength: float, rng: np.random.Generator) -> Image.Image:
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = enhance(image).enhance(rng.uniform(1 - strength, 1 + strength))
    return image


def _erase(image: Image.Image, rng: np.random.Generator) -> None:
    side_px = image.width
    area = rng.uniform(*_ERASE_AREA) * side_px * side_px
    aspect = math.exp(rng.uniform(math.log(_ERASE_ASPECT[0]), math.log(_ERASE_ASPECT[1])))
    width, height = (min(side_px, max(1, round(math.sqrt(part)))) for part in (area * aspect, area / aspect))
    left, top = (int(rng.integers(side_px - length + 1)) for length in (width, height))
    mean = image.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
    assert isinstance(mean, tuple)
    image.paste(mean, (left, top, left + width, top + height))
