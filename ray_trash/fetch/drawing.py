"""What the sample set and the pictures of no class are both drawn with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Plane = NDArray[np.floating]
"""One value per pixel, shape (height, width)."""
Levels = tuple[int, int, int]
"""A colour as Pillow takes it: red, green, blue, 0..255."""


def turned_axes(size: tuple[int, int], angle: float) -> tuple[Plane, Plane]:
    """Return how far each pixel lies along and across a direction, from the upper left corner.

    The size is width and height; the angle is in radians, clockwise from the right.
    """
    y, x = np.ogrid[: size[1], : size[0]]
    return x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)


def any_colour(random: np.random.Generator) -> Levels:
    """Draw any colour there is."""
    red, green, blue = random.integers(0, 256, 3).tolist()
    return red, green, blue


def scatter(picture: Image.Image, random: np.random.Generator, n: int, sides_px: tuple[float, float]) -> None:
    """Draw discs, boxes, triangles and lines of any colour, anywhere on a picture."""
    draw = ImageDraw.Draw(picture)
    for _ in range(n):
        x, y = random.uniform((0, 0), picture.size).tolist()
        right, down = random.uniform(*sides_px, 2).tolist()
        colour, shape = any_colour(random), random.integers(4)
        if shape == 0:
            draw.ellipse((x, y, x + right, y + down), fill=colour)
        elif shape == 1:
            draw.rectangle((x, y, x + right, y + down), fill=colour)
        elif shape == 2:
            draw.polygon(((x, y), (x + right, y), (x + right / 2, y + down)), fill=colour)
        else:
            draw.line((x, y, x + right, y + down), fill=colour, width=int(random.integers(2, 20)))
