"""A small labelled set of photos, rendered: six classes of waste, no network, no licence.

`render_sample` fills a folder with `<class>/<class>0001.jpg` and so on. Photo `n` of a class
depends on the seed, the class and `n` alone. Background, light, place, size, turn and colour are
drawn alike for every class, so that only what the object looks like gives it away.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ray_trash.cluster.shares import usable_cpus
from ray_trash.errors import ConfigError, DataError
from ray_trash.fetch.drawing import Plane, scatter
from ray_trash.fetch.sample_objects import DRAWINGS, SIDE_PX, Cutout, random_colour
from ray_trash.storage import Storage
from ray_trash.terminal.bar import Bar
from ray_trash.terminal.say import Terminal

CLASSES = tuple(DRAWINGS)
WIDTH_PX, HEIGHT_PX = _SIZE_PX = 384, 288
"""Size of a photo: of the shape of TrashNet's, and large enough to look at."""
MAX_PER_CLASS = 9999
_JPEG_QUALITY = 90
_SHADOW_PX = 15
"""Width of what softens a shadow's edge."""
_COLUMNS = np.arange(WIDTH_PX, dtype=np.float32)[np.newaxis]
_ROWS = np.arange(HEIGHT_PX, dtype=np.float32)[:, np.newaxis]


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
    wanted = {_name(label, number): (label, number) for label in CLASSES for number in range(1, per_class + 1)}
    missing = [name for name in wanted if name not in found]

    def render(name: str) -> None:
        storage.write_bytes(name, render_photo(*wanted[name], seed=seed))

    with (
        Bar(terminal or Terminal.silent(), total=len(wanted), done=len(wanted) - len(missing), doing="drawing") as bar,
        # Threads do: drawing and encoding let go of Python's lock.
        ThreadPoolExecutor(usable_cpus()) as threads,
    ):
        for _ in threads.map(render, missing):
            bar.advance(1)
    found |= wanted.keys()
    return {label: sum(name.startswith(f"{label}/") for name in found) for label in CLASSES}


def _name(label: str, number: int) -> str:
    return f"{label}/{label}{number:04d}.jpg"


def render_photo(label: str, number: int, *, seed: int) -> bytes:
    """Render photo `number`, from 1, of a class as a JPEG file that carries the seed in its comment."""
    random = np.random.default_rng([seed, zlib.crc32(label.encode()), number])
    scene = _render_background(random)
    photo = _placed_and_lit(scene, DRAWINGS[label](random), random)
    encoded = io.BytesIO()
    Image.fromarray(photo).save(encoded, "JPEG", quality=_JPEG_QUALITY, comment=_comment(seed))
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
    coarse = random.normal(1, 0.12, (6, 8)).astype(np.float32)
    surface = cv2.resize(coarse, _SIZE_PX, interpolation=cv2.INTER_CUBIC)
    angle, period_px, strength = random.uniform((0, 6, 0), (np.pi, 45, 0.08)).tolist()
    surface *= 1 + strength * _wave(angle, period_px)
    scene = Image.fromarray(_joined(surface * (255 * level) for level in random_colour(random)))
    scatter(scene, random, int(random.integers(2, 7)), (8, 45))
    return scene


def _wave(angle: float, period_px: float) -> Plane:
    """Return a sine of -1..1 over the photo that runs in a direction."""
    # The sine of a sum, so that it is taken of a row and a column instead of every pixel.
    x, y = ((2 * np.pi / period_px) * along for along in (_COLUMNS * np.cos(angle), _ROWS * np.sin(angle)))
    wave: Plane = np.sin(x) * np.cos(y) + np.cos(x) * np.sin(y)
    return wave


def _placed_and_lit(scene: Image.Image, item: Cutout, random: np.random.Generator) -> NDArray[np.uint8]:
    """Lay the object on the scene, any size, any turn, off the centre, over its shadow, and photograph that.

    Light falls from one side, has a tint, and the camera adds its noise.
    """
    size, degrees = random.uniform((0.95, 0), (1.25, 360)).tolist()
    centre = (SIDE_PX - 1) / 2
    to_scene = np.asarray(cv2.getRotationMatrix2D((centre, centre), degrees, size), np.float64)
    to_scene[:, 2] += (np.array(_SIZE_PX) - SIDE_PX) / 2 + random.uniform((-45, -19), (45, 19))
    turned = cv2.warpAffine(item, to_scene, _SIZE_PX)
    covered = turned[..., 3]
    away = np.eye(2, 3, dtype=np.float32)
    away[:, 2] = random.integers(-10, 11, 2)
    shadow = cv2.blur(cv2.warpAffine(covered, away, _SIZE_PX), (_SHADOW_PX, _SHADOW_PX))
    angle, fall, gain, noise = random.uniform((0, 0, 0.7, 0.01), (2 * np.pi, 0.35, 1.2, 0.04)).tolist()
    along = (_COLUMNS - WIDTH_PX / 2) * np.cos(angle) + (_ROWS - HEIGHT_PX / 2) * np.sin(angle)
    light = (gain * (1 + fall / (WIDTH_PX / 2) * along)).astype(np.float32)
    grain = random.standard_normal((HEIGHT_PX, WIDTH_PX), np.float32) * np.float32(255 * noise)
    below = (1 - random.uniform(0.25, 0.55) / 255 * shadow.astype(np.float32)) * (1 - covered / np.float32(255))
    levels, tint = np.asarray(scene), random.uniform(0.85, 1.15, 3).tolist()
    return _joined((levels[..., c] * below + turned[..., c]) * (light * tint[c]) + grain for c in range(3))


def _joined(planes: Iterable[Plane]) -> NDArray[np.uint8]:
    """Make a picture of red, green and blue levels, 0..255 and beyond: planes cost a third of what pixels would."""
    picture = np.empty((HEIGHT_PX, WIDTH_PX, 3), np.uint8)
    for channel, plane in enumerate(planes):
        picture[..., channel] = plane.clip(0, 255)
    return picture
