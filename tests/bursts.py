"""Bursts of one shot, and shots that have nothing to do with one another, drawn for tests of the audit."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance

WIDTH_PX, HEIGHT_PX = 320, 240


def draw_scene(rng: np.random.Generator) -> Image.Image:
    """Draw a photo-like picture: a soft background, a few dozen shapes, and grain."""
    coarse = rng.integers(60, 200, (6, 8, 3)).astype(np.uint8)
    image = Image.fromarray(coarse).resize((WIDTH_PX, HEIGHT_PX), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(40):
        x, y = rng.integers(0, WIDTH_PX), rng.integers(0, HEIGHT_PX)
        w, h = rng.integers(6, 60, 2)
        colour = tuple(int(value) for value in rng.integers(0, 256, 3))
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape((int(x), int(y), int(x + w), int(y + h)), fill=colour)
    grain = rng.normal(0, 3, (HEIGHT_PX, WIDTH_PX, 1))
    return Image.fromarray(np.clip(np.asarray(image) + grain, 0, 255).astype(np.uint8))


def encode(image: Image.Image, *, quality: int = 90) -> bytes:
    """Return the picture as a JPEG file."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def draw_burst(rng: np.random.Generator) -> list[bytes]:
    """Draw one shot four times: as it is, cropped and re-encoded, turned a little, and turned by a quarter."""
    scene = draw_scene(rng)
    crop_px = int(rng.integers(0, 30))
    cropped = scene.crop((crop_px, crop_px // 2, WIDTH_PX - 10, HEIGHT_PX - 10))
    turned = scene.rotate(float(rng.uniform(-8, 8)), Image.Resampling.BICUBIC, fillcolor=(128, 128, 128))
    brighter = ImageEnhance.Brightness(scene.transpose(Image.Transpose.ROTATE_90)).enhance(float(rng.uniform(0.7, 1.3)))
    return [encode(scene), encode(cropped, quality=50), encode(turned), encode(brighter)]


def write_bursts(folder: Path, n_bursts: int, *, seed: int = 0) -> list[list[str]]:
    """Write bursts under two classes, half in each, and return the paths of each burst below the folder."""
    rng = np.random.default_rng(seed)
    bursts = []
    for number in range(n_bursts):
        label = ("glass", "paper")[number % 2]
        (folder / label).mkdir(parents=True, exist_ok=True)
        paths = [f"{label}/{number:03d}-{shot}.jpg" for shot in range(4)]
        for path, encoded in zip(paths, draw_burst(rng), strict=True):
            (folder / path).write_bytes(encoded)
        bursts.append(paths)
    return bursts
