"""Parts of a photo hidden from the network, to see which part its answer rests on."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ray_trash.image.preprocess import Preprocessing

Mask = Literal["border", "centre"]
"""Hide the frame around the central square, or the central square."""

CENTRE_SHARE = 2 / 3
"""Side of the central square, of the photo's side: four ninths of the area, where photos of one object have it."""


def mask_photo(square: NDArray[np.uint8], mask: Mask | None, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Hide a part of a copy of a square (S, S, 3) under the mean colour, which the network sees as zeros."""
    if mask is None:
        return square
    side_px = len(square)
    margin_px = round(side_px * (1 - CENTRE_SHARE) / 2)
    centre = slice(margin_px, side_px - margin_px)
    mean = np.rint(np.array(preprocessing.mean) * 255).astype(np.uint8)
    hidden = square.copy()
    if mask == "centre":
        hidden[centre, centre] = mean
    else:
        hidden[:] = mean
        hidden[centre, centre] = square[centre, centre]
    return hidden
