"""A map over a photo, drawn: the photo with warm colours where the map is high, alone or beside the photo."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ray_trash.image.encode import png_file

_STRONGEST = 0.65
"""How much of a pixel is colour where the map is highest; the rest is the photo, to see what lies there."""
_GAP_PX = 4
_RAMP = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))
"""RGB from nothing to the highest value: matplotlib's `inferno` in quarters, equally far apart for every eye."""


def heat_picture(photo: NDArray[np.uint8], heat: NDArray[np.float32]) -> bytes:
    """Draw a photo (S, S, 3) uint8 and, right of it, `heat_over` it, as a PNG file."""
    gap = np.full((len(photo), _GAP_PX, 3), 255, np.uint8)
    return png_file(Image.fromarray(np.concatenate([photo, gap, _heated(photo, heat)], axis=1)))


def heat_over(photo: NDArray[np.uint8], heat: NDArray[np.float32]) -> bytes:
    """Draw a map (H, W) over a photo (S, S, 3) uint8, as a PNG file.

    What speaks against, below 0, is not drawn; the colours are relative to the highest place of this map.
    """
    return png_file(Image.fromarray(_heated(photo, heat)))


def _heated(photo: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    side_px = len(photo)
    places = Image.fromarray(np.maximum(heat, 0).astype(np.float32))
    smooth = np.asarray(places.resize((side_px, side_px), Image.Resampling.BICUBIC)).clip(0)
    highest = float(smooth.max())
    share = smooth / highest if highest > 0 else smooth  # (S, S), 0..1
    at = np.linspace(0, 1, len(_RAMP))
    colour = np.stack([np.interp(share, at, channel) for channel in np.array(_RAMP).T], axis=-1)
    opacity = (_STRONGEST * share)[..., None]
    return np.asarray(np.rint(photo * (1 - opacity) + colour * opacity), np.uint8)
