"""From a photo to the square the network sees; one way for training, evaluation, scoring and serving.

First `load_photo`, once for a file, to what is kept; then `fit_photo`, or in training `augment_photo`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from PIL import Image
from pydantic import ConfigDict, Field

from ray_trash.config import ImageConfig
from ray_trash.image.container.layout import Container
from ray_trash.image.decode import open_photo
from ray_trash.image.resize import resize

Fit = Literal["stretch", "crop"]
"""How a photo becomes a square: the whole of it stretched, or its central square."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean of red, green and blue in 0..1. Source: torchvision ResNet50_Weights.IMAGENET1K_V2.transforms()."""
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Standard deviation of red, green and blue in 0..1, of the same source."""

MAX_ASPECT_RATIO = 4
"""Longer photos lose their ends: a panorama of 60000x200 says no more about one object."""

_REDUCING_GAP = 3.0
"""Steps down by twice this and more go by whole-pixel averages first, which only Pillow does. Source: its documentation
of `reducing_gap`: from 3.0 on, close to indistinguishable from the exact filter."""

_Side = Annotated[int, Field(ge=1, le=1 << 14)]
_Level = Annotated[float, Field(gt=0, le=1)]


@dataclass(frozen=True)
class Preprocessing:
    """Everything between a file's bytes and the network's input; stored in the checkpoint.

    Attributes:
        size_px: Side of the square the network sees, in pixels.
        stored_short_side_px: Short side a photo is decoded down to, in pixels; smaller ones stay as they are.
        mean: Subtracted from red, green and blue in 0..1, before they are divided by `std`.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    size_px: _Side
    stored_short_side_px: _Side
    fit: Fit
    mean: tuple[_Level, _Level, _Level] = IMAGENET_MEAN
    std: tuple[_Level, _Level, _Level] = IMAGENET_STD

    @classmethod
    def from_config(cls, image: ImageConfig) -> Preprocessing:
        """Take the values of a config; mean and deviation are ImageNet's."""
        return cls(image.size_px, image.stored_short_side_px, image.fit)

    def to_json(self) -> dict[str, Any]:
        """Return the values as JSON holds them."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}


def load_photo(encoded: bytes | Container, preprocessing: Preprocessing) -> np.ndarray:
    """Decode a photo, measured by `read_container` or not, down to the size that is kept.

    The ends of a photo longer than 4:1 are cut off around its centre; then the short side comes down to
    `stored_short_side_px` with an antialiased bicubic filter, and is never scaled up.

    Returns:
        Array (height, width, 3), uint8 in 0..255, RGB, upright, C-contiguous.

    Raises:
        ImageError: The photo cannot be used.
    """
    return store_photo(open_photo(encoded, min_short_side_px=preprocessing.stored_short_side_px), preprocessing)


def store_photo(image: Image.Image, preprocessing: Preprocessing) -> np.ndarray:
    """Bring a decoded photo, of mode RGB, to the size that is kept: the second half of `load_photo`."""
    stored_px = preprocessing.stored_short_side_px
    short_px = min(image.size)
    width_px, height_px = (min(side_px, MAX_ASPECT_RATIO * short_px) for side_px in image.size)
    left, top = (image.width - width_px) // 2, (image.height - height_px) // 2
    if (width_px, height_px) != image.size:
        image = image.crop((left, top, left + width_px, top + height_px))
    if short_px <= stored_px:
        return np.array(image)
    scale = stored_px / short_px
    size = (round(width_px * scale), round(height_px * scale))
    if short_px >= 2 * _REDUCING_GAP * stored_px:
        return np.array(image.resize(size, Image.Resampling.BICUBIC, reducing_gap=_REDUCING_GAP))
    return resize(np.asarray(image), *size, by="bicubic")


def fit_photo(photo: np.ndarray, preprocessing: Preprocessing, *, size_px: int | None = None) -> np.ndarray:
    """Bring a photo (height, width, 3), uint8, RGB, to the network's square, with an antialiased bilinear filter.

    Its side is `size_px`, by default the preprocessing's; it is C-contiguous.
    """
    side_px = preprocessing.size_px if size_px is None else size_px
    if preprocessing.fit == "crop":
        height, width = photo.shape[:2]
        short_px = min(height, width)
        top, left = (height - short_px) // 2, (width - short_px) // 2
        photo = photo[top : top + short_px, left : left + short_px]
    return resize(photo, side_px, side_px, by="bilinear")
