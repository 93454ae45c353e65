"""The six objects of the sample set: random numbers in, one object cut out of a square out.

Shape and texture tell the classes apart; colour does not, every class draws from one palette.
"""

from __future__ import annotations

import colorsys
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ray_trash.fetch.drawing import Plane

SIDE_PX = 240
"""Side of the square an object is drawn on."""
_SIDE = 320.0
"""The same in the units that objects are measured in."""

Colour = NDArray[np.floating]
"""RGB, shape (3,), 0..1."""
Cutout = NDArray[np.uint8]
"""RGB and how much of what lies below is covered, shape (SIDE_PX, SIDE_PX, 4); the colours times that share."""

_ACROSS = ((np.arange(SIDE_PX, dtype=np.float32) - (SIDE_PX - 1) / 2) * (_SIDE / SIDE_PX))[np.newaxis]
_DOWN = _ACROSS.T
"""How far right and down of the centre a pixel lies: a row and a column, so that what depends on one costs little."""


def random_colour(random: np.random.Generator) -> Colour:
    """Draw from the palette that objects and backgrounds share."""
    hue, saturation, value = random.uniform((0.0, 0.1, 0.35), (1.0, 0.7, 0.95)).tolist()
    return np.array(colorsys.hsv_to_rgb(hue, saturation, value), np.float32)


def _cardboard(random: np.random.Generator) -> Cutout:
    """A box of three visible faces, corrugated on one side, taped along the top."""
    picture = Image.new("RGBA", (SIDE_PX, SIDE_PX))
    colour = random_colour(random)
    width, depth, height, slope = random.uniform((110, 70, 80, 0.3), (145, 100, 125, 0.5)).tolist()
    right, left, down = np.array([[width, -width * slope], [-depth, -depth * slope], [0, height]])
    corner = -(right + left + down) / 2

    def face(start: Colour, along: Colour, across: Colour, shade: Colour, rim: Colour) -> None:
        _polygon(picture, np.array([start, start + along, start + along + across, start + across]), shade, rim)

    for along, across, light in ((right, left, 1.0), (right, down, 0.78), (left, down, 0.55)):
        face(corner, along, across, colour * light, colour * 0.3)
    for share in np.linspace(0.06, 0.9, random.integers(6, 9)):
        face(corner + left * share, left * 0.04, down, colour * 0.2, colour * 0.2)
    tape = 1 - (1 - colour) * 0.4
    face(corner + right * 0.42, right * 0.16, left, tape, tape)
    return np.asarray(picture)


def _glass(random: np.random.Generator) -> Cutout:
    """A bottle one sees through: dark rims, a clear middle, hard highlights."""
    body, neck, shoulder, first, second = random.uniform((48, 15, -60, -0.6, 0.45), (66, 21, -30, -0.4, 0.6)).tolist()
    ramp = np.clip((_DOWN - shoulder) / 45, 0, 1)
    radius = neck + (body - neck) * ramp**2 * (3 - 2 * ramp) + 6 * (_DOWN < -126)
    around, covered = _turned(radius, -142, 142)
    rim = np.abs(around) ** 5
    shine = _bump(around, first, 0.1) * (np.abs(_DOWN) < 112) + 0.6 * _bump(around, second, 0.06) * (_DOWN > 0)
    alpha = np.maximum(np.maximum(0.15 + 0.75 * rim, 0.7 * (_DOWN > 128)), 0.9 * shine)
    return _picture(random_colour(random) * 0.7, 1 - 0.4 * rim, covered * alpha, shine)


def _metal(random: np.random.Generator) -> Cutout:
    """A ribbed can: mirror-like bands of light along it, a lid with a ring on top."""
    radius, height, n_bands, phase, stripe, pitch = random.uniform(
        (66, 86, 5, 0, -0.35, 22), (88, 112, 7, 6, 0.35, 30)
    ).tolist()
    bulge = 20 * np.sqrt(1 - np.clip(_ACROSS / radius, -1, 1) ** 2)  # a ring around the can seen from above
    around, covered = _turned(np.full_like(_DOWN, radius), bulge - height, bulge + height)
    ribs = 0.25 * np.sign(np.sin((_DOWN - bulge) * (2 * np.pi / pitch))) * (np.abs(_DOWN - bulge) < height * 0.75)
    light = (0.45 + 0.3 * np.cos(around * n_bands + phase)) * (1 + ribs) + ribs / 4
    lid = np.hypot(_ACROSS / radius, (_DOWN + height) / 20)
    ring = np.abs(np.hypot((_ACROSS - 14) / 24, (_DOWN + height) / 9) - 0.8) < 0.25
    light = np.where(lid < 1, np.where(ring, 0.2, 0.7 + 0.5 * (lid > 0.85)), light)
    shine = 0.95 * _bump(around, stripe, 0.13) * (lid > 1)
    return _picture(random_colour(random), light, np.maximum(covered, lid < 1), shine)


def _paper(random: np.random.Generator) -> Cutout:
    """A crumpled sheet: a ragged outline, flat facets, lines of print."""
    half_width, half_height, pitch, word, shift = random.uniform((90, 110, 20, 6, 1), (110, 135, 24, 9, 3)).tolist()
    sheet = (np.abs(_ACROSS) < half_width) & (np.abs(_DOWN) < half_height)
    line, below = np.divmod(_DOWN, pitch)
    printed = (below < 7) & (np.sin(_ACROSS / word + shift * line) > -0.7)
    printed &= (np.abs(_ACROSS) < half_width - 18) & (np.abs(line + 0.5) < half_height / pitch - 1)
    light = 1 - 0.7 * printed
    for angle, fold, torn, depth in random.uniform((0, -80, 95, 0.04), (2 * np.pi, 80, 140, 0.14), (7, 4)).tolist():
        beyond = _ACROSS * math.cos(angle) + _DOWN * math.sin(angle)
        light *= 1 + depth * np.sign(beyond - fold)
        sheet &= beyond < torn
    return _picture(random_colour(random), light, sheet)


def _plastic(random: np.random.Generator) -> Cutout:
    """A matt, opaque bottle: grip rings, a label, a wide cap of another colour."""
    body, ripple, pitch, middle, half_height = random.uniform((68, 6, 34, 0, 22), (86, 10, 46, 45, 35)).tolist()
    radius = 30 + (body - 30) * np.sqrt(np.clip((_DOWN + 98) / 45, 0, 1))
    radius += ripple * np.sin(_DOWN * (2 * np.pi / pitch)) * (_DOWN > -50)
    cap, label = _DOWN < -98, np.abs(_DOWN - middle) < half_height
    around, covered = _turned(np.where(cap, 38, radius), -140, 140)
    colour = np.where(label[..., None], random_colour(random), random_colour(random))
    colour = np.where(cap[..., None], random_colour(random), colour)
    light = (1 - 0.5 * np.clip(around + 0.2, 0, None) ** 2) * (1 - 0.5 * cap * (np.sin(_ACROSS * 0.7) < 0))
    return _picture(colour, light, covered)


def _trash(random: np.random.Generator) -> Cutout:
    """A heap of scraps of many colours and shapes, thrown over each other."""
    picture = Image.new("RGBA", (SIDE_PX, SIDE_PX))
    for _ in range(random.integers(26, 40)):
        angles = np.sort(random.uniform(0, 2 * np.pi, random.integers(3, 8)))
        reach = random.uniform(14, 46, (len(angles), 1))
        outline = np.clip(random.normal(0, 55, 2), -112, 112) + reach * np.stack([np.cos(angles), np.sin(angles)], 1)
        colour = random_colour(random)
        _polygon(picture, outline, colour * random.uniform(0.6, 1.1), colour * 0.35)
    return np.asarray(picture)


DRAWINGS = {
    "cardboard": _cardboard,
    "glass": _glass,
    "metal": _metal,
    "paper": _paper,
    "plastic": _plastic,
    "trash": _trash,
}
"""How to draw an object of each class, upright."""


def _polygon(picture: Image.Image, outline: Plane, colour: Colour, rim: Colour) -> None:
    """Fill a polygon whose corners (n, 2) are given from the centre."""
    fill, edge = (tuple((np.clip(shade, 0, 1) * 255).astype(int).tolist()) for shade in (colour, rim))
    corners = [(x, y) for x, y in ((outline + _SIDE / 2) * (SIDE_PX / _SIDE)).tolist()]
    ImageDraw.Draw(picture).polygon(corners, fill=fill, outline=edge, width=2)


def _turned(radius: Plane, top: Plane | float, bottom: Plane | float) -> tuple[Plane, Plane]:
    """Return a body of revolution: -1..1 from its left to its right edge, and its coverage with soft edges."""
    edge = np.minimum(np.minimum(radius - np.abs(_ACROSS), _DOWN - top), bottom - _DOWN)
    return np.clip(_ACROSS / radius, -1, 1), np.clip(edge + 0.5, 0, 1)


def _bump(x: Plane, centre: float, width: float) -> Plane:
    bump: Plane = np.exp(-(((x - centre) / width) ** 2))
    return bump


def _picture(colour: Colour, diffuse: Plane, alpha: Plane, specular: Plane | float = 0.0) -> Cutout:
    """Light a colour, or one per pixel, diffusely, and add white specular light."""
    picture = np.empty((SIDE_PX, SIDE_PX, 4), np.uint8)
    levels = 255 * np.clip(alpha, 0, 1)
    for channel in range(3):
        picture[..., channel] = levels * np.clip(colour[..., channel] * diffuse + specular, 0, 1)
    picture[..., 3] = levels
    return picture
