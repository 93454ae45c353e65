"""The eight ways a square maps onto itself, for augmentation, for answers over views and for comparing copies."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image


class Symmetry(NamedTuple):
    """A mirror from left to right, or none, then quarter turns anticlockwise; and Pillow's name, where it has one."""

    mirrored: bool
    quarter_turns: int
    transpose: Image.Transpose | None


SYMMETRIES = (
    Symmetry(False, 0, None),
    Symmetry(False, 1, Image.Transpose.ROTATE_90),
    Symmetry(False, 2, Image.Transpose.ROTATE_180),
    Symmetry(False, 3, Image.Transpose.ROTATE_270),
    Symmetry(True, 0, Image.Transpose.FLIP_LEFT_RIGHT),
    Symmetry(True, 1, Image.Transpose.TRANSPOSE),
    Symmetry(True, 2, Image.Transpose.FLIP_TOP_BOTTOM),
    Symmetry(True, 3, Image.Transpose.TRANSVERSE),
)
"""The identity first. Answers are averaged in this order, and a sum's last bits follow its order."""


def symmetric_views(photo: NDArray[np.uint8], views: int = len(SYMMETRIES)) -> list[NDArray[np.uint8]]:
    """List a photo (height, width, 3) under the first `views` symmetries; the arrays share its memory."""
    return [
        np.rot90(photo[:, ::-1] if mirrored else photo, quarter_turns)
        for mirrored, quarter_turns, _ in SYMMETRIES[:views]
    ]
