"""The six objects of the sample set: random numbers in, one object on a transparent square out.

Shape and texture tell the classes apart; colour does not, every class draws from one palette. Knows
nothing of backgrounds, light or files.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

CANVAS_PX = 320
"""Side of the square an object is drawn on."""

Plane = npt.NDArray[np.floating]
"""One value per pixel of the canvas, shape (CANVAS_PX, CANVAS_PX)."""
Colour = npt.NDArray[np.floating]
"""RGB, shape (3,), 0..1."""
Vector = npt.NDArray[np.floating]
"""A point or a direction on the canvas, shape (2,): right and down, in pixels."""

_CENTRE = np.array([CANVAS_PX / 2, CANVAS_PX / 2])


def random_colour(random: np.random.Generator) -> Colour:
    """Draw from the palette that objects, clutter and backgrounds share."""
    hue, saturation, value = random.uniform((0.0, 0.1, 0.35), (1.0, 0.7, 0.95))
    return np.array(colorsys.hsv_to_rgb(hue, saturation, value), dtype=np.float32)


def draw_cardboard(random: np.random.Generator) -> Image.Image:
    """Draw a box of three visible faces, taped along the top, corrugated on one side."""
    image, draw = _blank()
    colour = random_colour(random)
    width, depth, height = random.uniform((110, 70, 80), (145, 100, 125)).tolist()
    slope = random.uniform(0.3, 0.5)
    right = np.array([width, -width * slope])
    left = np.array([-depth, -depth * slope])
    down = np.array([0.0, height])
    corner = _CENTRE - (right + left + down) / 2
    for along, across, light in ((right, left, 1.0), (right, down, 0.78), (left, down, 0.55)):
        face = (corner, corner + along, corner + along + across, corner + across)
        _fill(draw, face, colour * light, rim=colour * 0.3)
    flutes = int(random.integers(6, 9))
    for i in range(flutes):
        start = corner + left * ((i + 0.5) / flutes)
        draw.line([*start, *(start + down)], fill=_rgba(colour * 0.2), width=6)
    begin, end = corner + right * 0.42, corner + right * 0.58
    _fill(draw, (begin, end, end + left, begin + left), 1 - (1 - colour) * 0.4)
    return image


def draw_glass(random: np.random.Generator) -> Image.Image:
    """Draw a bottle one sees through: dark rims, a clear middle, hard highlights."""
    across, down = _axes()
    body, neck = random.uniform((48, 15), (66, 21)).tolist()
    ramp = np.clip((down - random.uniform(-60, -30)) / 45, 0, 1)
    radius = neck + (body - neck) * ramp**2 * (3 - 2 * ramp)
    radius = radius + 6 * ((down > -142) & (down < -126))
    around = np.clip(across / radius, -1, 1)
    rim = np.abs(around) ** 5
    floor = _inside(across, down, radius, 128, 142)
    body_alpha = _inside(across, down, radius, -142, 142) * (0.15 + 0.75 * rim)
    long_shine = _bump(around, random.uniform(-0.6, -0.4), 0.1) * (np.abs(down) < 112)
    short_shine = 0.6 * _bump(around, random.uniform(0.45, 0.6), 0.06) * (down > 0)
    shine = (long_shine + short_shine) * _inside(across, down, radius, -142, 125)
    photo = _lit(random_colour(random) * 0.7, 1 - 0.4 * rim, shine)
    return _compose(photo, np.maximum(np.maximum(body_alpha, floor * 0.7), 0.9 * shine))


def draw_metal(random: np.random.Generator) -> Image.Image:
    """Draw a ribbed can: mirror-like bands of light along it, a lid with a ring on top."""
    across, down = _axes()
    radius, height = random.uniform((66, 88), (86, 112)).tolist()
    around = np.clip(across / radius, -1, 1)
    level = down - 20 * np.sqrt(1 - around**2)  # a ring around the can seen from above
    bands = 0.45 + 0.3 * np.cos(around * random.uniform(5, 7) + random.uniform(0, 6))
    ribs = np.sign(np.sin(level * (2 * np.pi / random.uniform(22, 30))))
    ribs = 0.25 * ribs * (np.abs(level) < height * 0.75)
    stripe = 0.95 * _bump(around, random.uniform(-0.35, 0.35), 0.13)
    colour = random_colour(random)
    photo = _lit(colour, bands * (1 + ribs) + ribs / 4, stripe)
    lid = np.hypot(across / radius, (down + height) / 20)
    photo = np.where((lid < 1)[..., None], _lit(colour, 0.7 + 0.5 * (lid > 0.85)), photo)
    ring = np.hypot((across - 14) / 24, (down + height) / 9)
    photo = np.where((np.abs(ring - 0.8) < 0.25)[..., None], colour * 0.2, photo)
    wall = _inside(across, level, np.full_like(across, radius), -height, height)
    return _compose(photo, np.maximum(wall, np.clip((1 - lid) * 20, 0, 1)))


def draw_paper(random: np.random.Generator) -> Image.Image:
    """Draw a crumpled sheet: a ragged outline, flat facets, lines of print."""
    sheet, draw = _blank()
    half = random.uniform((90, 110), (110, 135))
    turn = np.linspace(0, 2 * np.pi, 14, endpoint=False) + random.uniform(-0.12, 0.12, 14)
    compass = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    reach = random.uniform(0.86, 1.08, (14, 1)) / np.abs(compass).max(axis=1, keepdims=True)
    _fill(draw, _CENTRE + half * compass * reach, np.zeros(3))
    across, down = _axes()
    relief = np.zeros_like(across)
    for angle, offset, depth in random.uniform((0, -80, 0.04), (2 * np.pi, 80, 0.14), (7, 3)).tolist():
        relief += depth * np.sign(across * math.cos(angle) + down * math.sin(angle) - offset)
    printed, pen = _blank()
    right = half[0] - 18
    for line in np.arange(22 - half[1], half[1] - 24, random.uniform(20, 24)):
        start = -right
        while start < right - 20:
            end = min(start + random.uniform(20, 60), right)
            word = np.array([start, line, end, line + 7]) + CANVAS_PX / 2
            pen.rectangle(word.tolist(), fill=(0, 0, 0, 255))
            start = end + 10
    photo = _lit(random_colour(random), (1 + relief) * (1 - 0.7 * _alpha_of(printed)))
    return _compose(photo, _alpha_of(sheet))


def draw_plastic(random: np.random.Generator) -> Image.Image:
    """Draw a matt, opaque bottle: grip rings, a label, a wide cap of another colour."""
    across, down = _axes()
    body, ripple, pitch = random.uniform((68, 6, 34), (86, 10, 46)).tolist()
    radius = 30 + (body - 30) * np.sqrt(np.clip((down + 98) / 45, 0, 1))
    radius = radius + ripple * np.sin(down * (2 * np.pi / pitch)) * (down > -50)
    cap = down < -98
    radius = np.where(cap, 38, radius)
    around = np.clip(across / radius, -1, 1)
    colour, cap_colour, label_colour = (random_colour(random) for _ in range(3))
    photo = _lit(colour, 1 - 0.5 * np.clip(around + 0.2, 0, None) ** 2)
    top = random.uniform(-25, 15)
    label = (down > top) & (down < top + random.uniform(45, 70))
    photo = np.where(label[..., None], _lit(label_colour, 1 - 0.5 * around**2), photo)
    knurls = 0.75 + 0.25 * np.sign(np.sin(across * 0.7))
    photo = np.where(cap[..., None], _lit(cap_colour, knurls * (1 - 0.3 * around**2)), photo)
    return _compose(photo, _inside(across, down, radius, -140, 140))


def draw_trash(random: np.random.Generator) -> Image.Image:
    """Draw a heap of scraps of many colours and shapes, thrown over each other."""
    image, draw = _blank()
    for _ in range(int(random.integers(26, 40))):
        centre = _CENTRE + np.clip(random.normal(0, 55, 2), -112, 112)
        corners = int(random.integers(3, 8))
        turn = np.sort(random.uniform(0, 2 * np.pi, corners))
        reach = random.uniform(14, 46, (corners, 1))
        outline = centre + reach * np.stack([np.cos(turn), np.sin(turn)], axis=1)
        colour = random_colour(random)
        _fill(draw, outline, colour * random.uniform(0.6, 1.1), rim=colour * 0.35)
    return image


DRAWINGS: Mapping[str, Callable[[np.random.Generator], Image.Image]] = MappingProxyType(
    {
        "cardboard": draw_cardboard,
        "glass": draw_glass,
        "metal": draw_metal,
        "paper": draw_paper,
        "plastic": draw_plastic,
        "trash": draw_trash,
    }
)
"""How to draw an object of each class: an RGBA image of CANVAS_PX by CANVAS_PX, upright."""


def _blank() -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGBA", (CANVAS_PX, CANVAS_PX))
    return image, ImageDraw.Draw(image)


def _axes() -> tuple[Plane, Plane]:
    axis = np.arange(CANVAS_PX, dtype=np.float32) - (CANVAS_PX - 1) / 2
    across, down = np.meshgrid(axis, axis)
    return across, down


def _inside(across: Plane, down: Plane, radius: Plane, top: float, bottom: float) -> Plane:
    """Return the coverage 0..1 of a body of revolution, soft by one pixel at its rim."""
    side = np.clip(radius - np.abs(across) + 0.5, 0, 1)
    ends = np.clip(down - top + 0.5, 0, 1) * np.clip(bottom - down + 0.5, 0, 1)
    covered: Plane = side * ends
    return covered


def _bump(x: Plane, centre: float, width: float) -> Plane:
    bump: Plane = np.exp(-(((x - centre) / width) ** 2))
    return bump


def _lit(colour: Colour, diffuse: Plane, specular: Plane | float = 0.0) -> Plane:
    """Return (H, W, 3): the colour times the diffuse light, plus white specular light."""
    lit: Plane = colour * diffuse[..., None] + np.asarray(specular)[..., None]
    return lit


def _compose(colours: Plane, alpha: Plane) -> Image.Image:
    rgba = np.concatenate([colours, alpha[..., None]], axis=-1)
    return Image.fromarray((np.clip(rgba, 0, 1) * 255).astype(np.uint8))


def _alpha_of(image: Image.Image) -> Plane:
    alpha: Plane = np.asarray(image.getchannel("A"), dtype=np.float32) / 255
    return alpha


def _fill(
    draw: ImageDraw.ImageDraw,
    outline: tuple[Vector, ...] | npt.NDArray[np.floating],
    colour: Colour,
    *,
    rim: Colour | None = None,
) -> None:
    corners = [(float(x), float(y)) for x, y in outline]
    edge = colour if rim is None else rim
    draw.polygon(corners, fill=_rgba(colour), outline=_rgba(edge), width=3)


def _rgba(colour: Colour) -> tuple[int, int, int, int]:
    red, green, blue = (int(value) for value in np.clip(colour, 0, 1) * 255)
    return red, green, blue, 255
