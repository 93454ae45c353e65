"""A small labelled set of photos, rendered: six classes of waste, no network, no licence.

`render_sample` fills a folder with `<class>/<class>0001.jpg` and so on. Photo `n` of a class
depends on the seed, the class and `n` alone. Background, light, place, size, turn and colour are
drawn alike for every class, so that only what the object looks like gives it away.
"""

from __future__ import annotations

import io
import re
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from ray_trash.errors import ConfigError, DataError
from ray_trash.fetch.drawing import scatter, turned_axes
from ray_trash.fetch.sample_objects import DRAWINGS, SIDE_PX, random_colour
from ray_trash.storage import Storage
from ray_trash.terminal.bar import Bar
from ray_trash.terminal.say import Terminal

CLASSES = tuple(DRAWINGS)
WIDTH_PX, HEIGHT_PX = _SIZE_PX = 512, 384
"""Size of a photo: that of the resized TrashNet."""
MAX_PER_CLASS = 9999
_JPEG_QUALITY = 90


def render_sample(
    destination: Path, *, per_class: int = 40, seed: int = 0, terminal: Terminal | None = None
) -> dict[str, int]:
    """Render a sample set into a folder, where photos of the same seed stay, and return how many it has of each class.

    Raises:
        ConfigError: `per_class` or `seed` is out of range.
        DataError: The folder holds something else than a sample of this seed.
        StorageError: The folder cannot be written.
    """
    if not 1 <= per_class <= MAX_PER_CLASS:
        raise ConfigError(f"per-class={per_class}: give a number from 1 to {MAX_PER_CLASS}")
    if seed < 0:
        raise ConfigError(f"seed={seed}: give 0 or more")
    found = _find_earlier_photos(destination, seed)
    storage = Storage.at(destination)
    with Bar(terminal or Terminal.silent(), total=per_class * len(CLASSES), done=len(found), doing="drawing") as bar:
        for label in CLASSES:
            for number in range(1, per_class + 1):
                name = f"{label}/{label}{number:04d}.jpg"
                if name not in found:
                    storage.write_bytes(name, render_photo(label, number, seed=seed))
                    found.add(name)
                    bar.advance(1)
    return {label: sum(name.startswith(f"{label}/") for name in found) for label in CLASSES}


def render_photo(label: str, number: int, *, seed: int) -> bytes:
    """Render photo `number`, from 1, of a class as a JPEG file that carries the seed in its comment."""
    random = np.random.default_rng([seed, zlib.crc32(label.encode()), number])
    scene = _render_background(random)
    _place(scene, DRAWINGS[label](random), random)
    encoded = io.BytesIO()
    _lit(scene, random).save(encoded, "JPEG", quality=_JPEG_QUALITY, comment=_comment(seed))
    return encoded.getvalue()


def _comment(seed: int) -> bytes:
    return f"ray-trash sample, seed {seed}".encode()


def _find_earlier_photos(destination: Path, seed: int) -> set[str]:
    """Return the names of this sample's photos that are there; anything else is refused."""
    advice = "give a new or empty folder for the sample"
    if destination.exists() and not destination.is_dir():
        raise DataError(f"{destination}: is not a folder; {advice}")
    classes = "|".join(CLASSES)
    photo = re.compile(rf"({classes})/\1\d{{4}}\.jpg")
    left_by_a_killed_write = re.compile(rf"({classes})/\.\1\d{{4}}\.jpg\.\w+")
    found = set()
    for path in sorted(destination.rglob("*")):
        name = path.relative_to(destination).as_posix()
        if (name in CLASSES and path.is_dir()) or left_by_a_killed_write.fullmatch(name):
            continue
        if not photo.fullmatch(name):
            raise DataError(f"{destination}: holds {name}, which is not of a sample; {advice}")
        if _comment_of(path) != _comment(seed):
            raise DataError(f"{destination}: {name} is not of the sample with seed {seed}; {advice}")
        found.add(name)
    return found


def _comment_of(path: Path) -> object:
    try:
        with Image.open(path, formats=("JPEG",)) as image:
            return image.info.get("comment")
    except OSError:
        return None


def _render_background(random: np.random.Generator) -> Image.Image:
    """Paint a surface with stains, a weave and clutter lying on it."""
    coarse = Image.fromarray(random.normal(1, 0.12, (6, 8)).astype(np.float32))
    stains = np.asarray(coarse.resize(_SIZE_PX, Image.Resampling.BICUBIC))
    angle, period_px, strength = random.uniform((0, 8, 0), (np.pi, 60, 0.08)).tolist()
    weave = 1 + strength * np.sin(turned_axes(_SIZE_PX, angle)[0].astype(np.float32) * (2 * np.pi / period_px))
    scene = _to_image(random_colour(random) * (stains * weave)[..., None])
    scatter(scene, random, int(random.integers(2, 7)), (10, 60))
    return scene


def _place(scene: Image.Image, item: Image.Image, random: np.random.Generator) -> None:
    """Lay the object on the scene: any size, any turn, off the centre, over its shadow."""
    side_px = round(SIDE_PX * random.uniform(0.95, 1.25))
    turned = item.resize((side_px, side_px), Image.Resampling.BILINEAR).rotate(
        random.uniform(0, 360), Image.Resampling.BILINEAR, expand=True
    )
    left, top = ((np.subtract(_SIZE_PX, turned.size) / 2) + random.uniform((-60, -25), (60, 25))).astype(int).tolist()
    right, down = random.integers(-14, 15, 2).tolist()
    strength = random.uniform(0.25, 0.55)
    shadow = Image.new("L", scene.size)
    shadow.paste(turned.getchannel("A").point(lambda alpha: alpha * strength), (left + right, top + down))
    scene.paste((0, 0, 0), mask=shadow.filter(ImageFilter.BoxBlur(9)))
    scene.paste(turned, (left, top), turned)


def _lit(scene: Image.Image, random: np.random.Generator) -> Image.Image:
    """Light the scene from one side, tint it, and add the camera's noise."""
    angle, fall, gain, noise = random.uniform((0, 0, 0.7, 0.01), (2 * np.pi, 0.35, 1.2, 0.04)).tolist()
    along, _ = turned_axes(_SIZE_PX, angle)
    light = (gain * (1 + fall * (along - along.mean()) / (WIDTH_PX / 2))).astype(np.float32)
    tint = random.uniform(0.85, 1.15, 3).astype(np.float32)
    grain = random.standard_normal((HEIGHT_PX, WIDTH_PX, 1), np.float32) * noise
    return _to_image(np.asarray(scene, np.float32) / 255 * light[..., None] * tint + grain)


def _to_image(photo: np.ndarray) -> Image.Image:
    return Image.fromarray((photo * 255).clip(0, 255).astype(np.uint8))
