"""Pictures that are photos of nothing, drawn by code from a fixed seed: what a checkpoint should rather not answer."""

from __future__ import annotations

import string
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ray_trash.fetch.drawing import any_colour, scatter, turned_axes

_SEED = 20_260_101
_SIZES_PX = ((512, 384), (384, 512), (640, 480))
"""Width and height, taken in turns: those of small photos."""
_Size = tuple[int, int]


def unknown_pictures(per_kind: int) -> Iterator[tuple[str, Image.Image]]:
    """Draw the first so many pictures of each kind, each with the name of its kind."""
    drawings = {"noise": _noise, "stripes": _stripes, "gradient": _gradient, "shapes": _shapes, "text": _text}
    for kind, (name, draw) in enumerate(drawings.items()):
        for number in range(per_kind):
            random = np.random.default_rng([_SEED, kind, number])
            yield name, draw(random, _SIZES_PX[number % len(_SIZES_PX)])


def _noise(random: np.random.Generator, size: _Size) -> Image.Image:
    """Grains of 1 to 32 pixels, in colour or in grey."""
    width, height = (max(1, side // 2 ** int(random.integers(6))) for side in size)
    channels = 3 if random.integers(2) else 1
    grains = random.integers(0, 256, (height, width, channels), np.uint8).repeat(3 // channels, axis=2)
    return Image.fromarray(grains).resize(size, Image.Resampling.NEAREST)


def _stripes(random: np.random.Generator, size: _Size) -> Image.Image:
    """Stripes at any angle, or checks, of two colours."""
    along, across = turned_axes(size, random.uniform(0, np.pi))
    period_px = random.uniform(12, 120)
    odd = np.floor(along / period_px) % 2 == 1
    if random.integers(2):
        odd ^= np.floor(across / period_px) % 2 == 1
    return Image.fromarray(np.where(odd[..., None], any_colour(random), any_colour(random)).astype(np.uint8))


def _gradient(random: np.random.Generator, size: _Size) -> Image.Image:
    """One colour running into another, straight or around a point."""
    along, across = turned_axes(size, random.uniform(0, np.pi))
    if random.integers(2):
        along = np.hypot(along - along.mean(), across - across.mean())
    share = ((along - along.min()) / np.ptp(along))[..., None]
    mixed = (1 - share) * np.array(any_colour(random)) + share * np.array(any_colour(random))
    return Image.fromarray(mixed.astype(np.uint8))


def _shapes(random: np.random.Generator, size: _Size) -> Image.Image:
    """Discs, boxes, triangles and lines on one colour."""
    picture = Image.new("RGB", size, any_colour(random))
    scatter(picture, random, int(random.integers(1, 7)), (20, 0.6 * min(size)))
    return picture


def _text(random: np.random.Generator, size: _Size) -> Image.Image:
    """Lines of letters, dark on light or light on dark."""
    light, dark = (tuple(random.integers(*levels, 3).tolist()) for levels in ((190, 256), (0, 70)))
    paper, ink = (light, dark) if random.integers(2) else (dark, light)
    picture = Image.new("RGB", size, paper)
    draw = ImageDraw.Draw(picture)
    height_px = int(random.integers(14, 90))
    font = ImageFont.load_default(height_px)
    letters = list(string.ascii_letters + string.digits + " " * 10)
    for top in range(8, size[1], round(1.4 * height_px)):
        line = "".join(random.choice(letters, size[0] // (height_px // 2) + 1))
        draw.text((8, top), line, fill=ink, font=font)
    return picture
