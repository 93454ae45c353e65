"""Small labelled sets that a network learns within seconds, made in a test's own folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"glass": (40, 160, 90), "metal": (120, 120, 200), "paper": (220, 200, 150)}


def make_photos(root: Path, per_class: int, *, classes: tuple[str, ...] = tuple(COLOURS), seed: int = 0) -> Path:
    """Draw noisy photos whose colour tells the class, under `root/<class>/`."""
    random = np.random.default_rng(seed)
    for label, name in enumerate(classes):
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        colour = np.array(COLOURS.get(name, (60 + 30 * label, 80, 200 - 30 * label)))
        for index in range(per_class):
            noise = random.normal(0, 20, (48, 64, 3))
            pixels = np.clip(colour + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{index:03d}.jpg", quality=90)
    return root


def make_twenty_five_photos(root: Path) -> Path:
    """Draw twelve photos, twelve, and one that is all its class has."""
    make_photos(root, 12)
    for path in sorted((root / "metal").iterdir())[1:]:
        path.unlink()
    return root


def put(root: Path, *paths: str) -> Path:
    """Write files that are listed but cannot be decoded."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"photo")
    return root
