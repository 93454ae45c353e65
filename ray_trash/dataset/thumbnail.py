"""Photos small enough to be part of a page."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ray_trash.dataset.read import PhotoFolder
from ray_trash.errors import DataError
from ray_trash.image.preprocess import Preprocessing

_QUALITY = 75
_THUMBNAIL = Preprocessing(size_px=160, stored_short_side_px=160, fit="stretch")


def thumbnail_uri(photos: PhotoFolder, path: str, *, sha256: str | None = None) -> str:
    """Return a photo as a `data:` URI, "" where it is gone or, where a hash is given, has changed."""
    try:
        return picture_uri(photos.load(path, _THUMBNAIL, sha256=sha256))
    except DataError:
        return ""


def picture_uri(pixels: NDArray[np.uint8]) -> str:
    """Return pixels (height, width, 3), uint8, RGB, as a `data:` URI of a JPEG file."""
    jpeg = io.BytesIO()
    Image.fromarray(pixels).save(jpeg, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.getvalue()).decode()
