"""What training changes in a photo, the same for the same (seed, epoch, photo) on any worker: drawn, then done."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageEnhance

from ray_trash.config import AugmentConfig
from ray_trash.image.preprocess import Preprocessing
from ray_trash.image.resize import resize
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

_ENHANCED = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
"""In the order that they are drawn and done in."""

_OTHER_KEYS = {"views", "mixup_alpha", "cutmix_alpha", "no_class_share"}
"""Keys of `AugmentConfig` that change no single photo: how many draws there are, and what is done to whole batches."""


def augmentation_values(config: AugmentConfig, preprocessing: Preprocessing) -> dict[str, Any]:
    """Return, as JSON values, what a photo from `augment_photo` depends on besides seed, epoch and the photo."""
    size_px = config.size_px or preprocessing.size_px
    return {**config.model_dump(mode="json", exclude=_OTHER_KEYS), "size_px": size_px}


class Box(NamedTuple):
    """A rectangle of whole pixels."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True)
class Change:
    """What is drawn for one photo in one epoch; what it does, in this order.

    Attributes:
        cut: What is kept of the stored photo, brought to the square.
        turned: From output to input, both about the square's centre: rows of a matrix, ((a, b), (d, e)) as a, b, d, e.
        symmetry: Pillow's name of one of the eight; None is the square as it is.
        colours: What brightness, contrast and saturation are multiplied by.
        erased: What of the square is filled with its mean.
    """

    cut: Box
    turned: tuple[float, float, float, float] | None = None
    symmetry: Image.Transpose | None = None
    colours: tuple[float, float, float] | None = None
    erased: Box | None = None


def augment_photo(
    photo: np.ndarray, config: AugmentConfig, preprocessing: Preprocessing, *, seed: int, epoch: int, photo_key: int
) -> np.ndarray:
    """Change a photo (height, width, 3), uint8, RGB, at random to a C-contiguous square; equal for equal arguments.

    The preprocessing says how the square is made where the recipe has no random crop, and its side where the recipe has
    none. Seed, epoch and the key that tells photos apart are at least 0. `image.batch` does the same to many photos.
    """
    height, width = photo.shape[:2]
    change = draw_change(height, width, config, preprocessing, seed=seed, epoch=epoch, photo_key=photo_key)
    side_px = config.size_px or preprocessing.size_px
    left, top, cut_width, cut_height = change.cut
    # Cut first: a resize of a box would look at pixels beyond it.
    cut = photo[top : top + cut_height, left : left + cut_width]
    image = Image.fromarray(resize(cut, side_px, side_px, by="bilinear"))
    if change.turned is not None:
        image = _turned(image, change.turned)
    if change.symmetry is not None:
        image = image.transpose(change.symmetry)
    if change.colours is not None:
        for enhance, factor in zip(_ENHANCED, change.colours, strict=True):
            image = enhance(image).enhance(factor)
    if change.erased is not None:
        left, top, erased_width, erased_height = change.erased
        mean = image.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
        assert isinstance(mean, tuple)
        image.paste(mean, (left, top, left + erased_width, top + erased_height))
    return np.array(image)


def draw_change(
    height: int,
    width: int,
    config: AugmentConfig,
    preprocessing: Preprocessing,
    *,
    seed: int,
    epoch: int,
    photo_key: int,
) -> Change:
    """Draw what `augment_photo` does to a stored photo of so many pixels; equal for equal arguments."""
    if config.preset == "none":
        return Change(_fitting(height, width, preprocessing))
    rng = np.random.default_rng((seed, epoch, photo_key))
    if config.preset == "seed":
        return Change(_fitting(height, width, preprocessing), turned=_draw_turn(rng))
    cut = _draw_crop(height, width, config.crop_area_min, rng)
    symmetry = _DRAWN_SYMMETRIES[rng.integers(len(_DRAWN_SYMMETRIES))]
    if config.preset == "dihedral":
        return Change(cut, symmetry=symmetry)
    strength = config.colour_strength
    brightness, contrast, saturation = (rng.uniform(1 - strength, 1 + strength) for _ in _ENHANCED)
    side_px = config.size_px or preprocessing.size_px
    erased = _draw_erased(side_px, rng) if rng.random() < config.erase_probability else None
    return Change(cut, symmetry=symmetry, colours=(brightness, contrast, saturation), erased=erased)


def _fitting(height: int, width: int, preprocessing: Preprocessing) -> Box:
    if preprocessing.fit == "stretch":
        return Box(0, 0, width, height)
    short_px = min(height, width)
    return Box((width - short_px) // 2, (height - short_px) // 2, short_px, short_px)


def _draw_turn(rng: np.random.Generator) -> tuple[float, float, float, float]:
    """Draw a rotation, then a flip either way with probability 1/2.

    Source: Keras ImageDataGenerator with rotation_range and both flips.
    """
    angle = math.radians(rng.uniform(-_ROTATION_MAX_DEGREES, _ROTATION_MAX_DEGREES))
    cos, sin = math.cos(angle), math.sin(angle)
    flip_x, flip_y = (-1 if rng.random() < 0.5 else 1 for _ in range(2))
    # The flip first, then the rotation.
    return cos * flip_x, -sin * flip_y, sin * flip_x, cos * flip_y


def _turned(square: Image.Image, turn: tuple[float, float, float, float]) -> Image.Image:
    """Turn about the centre, the border carried outwards. Source: Keras, fill_mode="nearest"."""
    side_px = square.width
    # Half a diagonal reaches this far beyond the border, and bilinear sampling looks one pixel further.
    margin_px = math.ceil((math.sqrt(2) - 1) / 2 * side_px) + 1
    a, b, d, e = turn
    centre, padded_centre = side_px / 2, side_px / 2 + margin_px
    offset_x = padded_centre - (a + b) * centre
    offset_y = padded_centre - (d + e) * centre
    # Ten times faster than np.pad(mode="edge") at 224 pixels.
    padded = cv2.copyMakeBorder(np.array(square), *(margin_px,) * 4, cv2.BORDER_REPLICATE)
    return Image.fromarray(padded).transform(
        (side_px, side_px), Image.Transform.AFFINE, (a, b, offset_x, d, e, offset_y), Image.Resampling.BILINEAR
    )


def _draw_crop(height: int, width: int, area_min: float, rng: np.random.Generator) -> Box:
    for _ in range(_CROP_TRIES):
        area = rng.uniform(area_min, 1.0) * height * width
        aspect = math.exp(rng.uniform(math.log(_CROP_ASPECT[0]), math.log(_CROP_ASPECT[1])))
        tried_width, tried_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < tried_width <= width and 0 < tried_height <= height:
            left = int(rng.integers(width - tried_width + 1))
            top = int(rng.integers(height - tried_height + 1))
            return Box(left, top, tried_width, tried_height)
    return Box(0, 0, width, height)


def _draw_erased(side_px: int, rng: np.random.Generator) -> Box:
    area = rng.uniform(*_ERASE_AREA) * side_px * side_px
    aspect = math.exp(rng.uniform(math.log(_ERASE_ASPECT[0]), math.log(_ERASE_ASPECT[1])))
    width, height = (min(side_px, max(1, round(math.sqrt(part)))) for part in (area * aspect, area / aspect))
    left, top = (int(rng.integers(side_px - length + 1)) for length in (width, height))
    return Box(left, top, width, height)
