"""BMP: Pillow reads the header; whether the rows it promises are there, and cheap enough, is asked here."""

from __future__ import annotations

import io

from PIL.BmpImagePlugin import BmpImageFile

from ray_trash.image.container.layout import Container, check_pixels, truncated, undecodable
from ray_trash.image.container.pillow import BROKEN_FILE_ERRORS, image_error

_RUN_LENGTH_PIXELS_MAX = 10_000_000
_RUN_LENGTH_BYTES_MAX = 2 << 20
"""Pillow expands run lengths in Python: about a microsecond for each code of two bytes, and up to 0.1 for
each pixel. The two limits bound that to about two seconds."""


def read_bmp(encoded: bytes) -> Container:
    """Measure a BMP."""
    try:
        image = BmpImageFile(io.BytesIO(encoded))
    except BROKEN_FILE_ERRORS as error:
        raise image_error(error, "BMP") from error
    check_pixels("BMP", *image.size)
    codec, _, start, arguments = image.tile[0]
    if codec == "bmp_rle":
        if image.width * image.height > _RUN_LENGTH_PIXELS_MAX or len(encoded) - start > _RUN_LENGTH_BYTES_MAX:
            raise undecodable("BMP", "its run lengths would take too long to expand")
        n_bytes = 1
    else:
        assert isinstance(arguments, tuple), "raw pixels: mode, bytes of a row, direction"
        n_bytes = int(arguments[1]) * image.height
    if start + n_bytes > len(encoded):
        raise truncated("BMP")
    return Container("BMP", *image.size, encoded)
