"""What a photo's file says about itself, read from its bytes alone and before anything is decoded.

`read_container` names the format by content, never by file name, measures the picture, refuses what is
too large, cut off or too costly, and strips everything that is not picture: Pillow is shown neither EXIF
nor ICC nor text, so none of them can fail, warn or blow up in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ray_trash.errors import ImageError
from ray_trash.image.container.bmp import read_bmp
from ray_trash.image.container.gif import read_gif
from ray_trash.image.container.heif import read_avif, read_heic
from ray_trash.image.container.jpeg import read_jpeg
from ray_trash.image.container.layout import MAX_JPEG_PIXELS, MAX_PIXELS, Container, Format, check_pixels
from ray_trash.image.container.png import read_png
from ray_trash.image.container.signature import identify
from ray_trash.image.container.tiff import read_tiff
from ray_trash.image.container.webp import read_webp

MAX_FILE_BYTES = 64 << 20
"""Longest file that is looked at, in bytes."""

_READERS: dict[Format, Callable[[bytes], Container]] = {
    "JPEG": read_jpeg,
    "PNG": read_png,
    "WEBP": read_webp,
    "BMP": read_bmp,
    "GIF": read_gif,
    "TIFF": read_tiff,
    "AVIF": read_avif,
    "HEIC": read_heic,
}


def read_container(encoded: bytes) -> Container:
    """Identify and measure a photo, the whole of its file given, without decoding it.

    Raises:
        ImageError: `empty_file`, `too_large`, `unsupported_format`, `truncated`, `too_many_pixels`, or
            `undecodable` where the file breaks its format's rules or would cost too much to decode.
    """
    if not encoded:
        raise ImageError("empty_file", "the file has no bytes in it; copy it again")
    if len(encoded) > MAX_FILE_BYTES:
        raise ImageError(
            "too_large",
            f"the file has {len(encoded):,} bytes, more than the {MAX_FILE_BYTES:,} that are read; save it smaller",
        )
    container = _READERS[identify(encoded)](encoded)
    most = MAX_JPEG_PIXELS if container.format == "JPEG" else MAX_PIXELS
    check_pixels(container.format, container.width_px, container.height_px, most=most)
    return container if container.orientation in range(1, 9) else replace(container, orientation=1)
