"""Pillow's readers, one for each format, and what their errors say about a file."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

from PIL.AvifImagePlugin import SUPPORTED as HAS_AVIF
from PIL.AvifImagePlugin import AvifImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.Image import DecompressionBombError
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from ray_trash.errors import ImageError
from ray_trash.image.container.layout import Format, truncated, undecodable, unsupported_kind


def _open_avif(file: io.BytesIO) -> ImageFile:
    if not HAS_AVIF:
        message = (
            "the file is an AVIF picture, which this Pillow cannot read; install Pillow's wheel, or save it as JPEG"
        )
        raise ImageError("unsupported_format", message)
    return AvifImageFile(file)


def _open_heic(file: io.BytesIO) -> ImageFile:
    # An extra, imported only where a HEIC is opened: it brings an HEVC decoder, and an encoder under the GPL.
    try:
        from pillow_heif.as_plugin import HeifImageFile
    except ImportError as error:
        message = (
            "the file is a HEIC picture, which pillow-heif reads; pip install 'ray-trash[heic]', or save it as JPEG"
        )
        raise ImageError("unsupported_format", message) from error
    opened: ImageFile = HeifImageFile(file)
    return opened


# Built directly, not by `Image.open`, which guesses among all formats and warns through Python's global filters.
OPENERS: dict[Format, Callable[[io.BytesIO], ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WEBP": WebPImageFile,
    "BMP": BmpImageFile,
    "GIF": GifImageFile,
    "TIFF": TiffImageFile,
    "AVIF": _open_avif,
    "HEIC": _open_heic,
}

BROKEN_FILE_ERRORS = (
    SyntaxError,
    OSError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    AttributeError,
    AssertionError,
    EOFError,
    MemoryError,
    struct.error,
    zlib.error,
    DecompressionBombError,
)
"""What Pillow's readers raise on hostile bytes."""

_UNKNOWN_KINDS = (
    "unknown pixel mode",
    "unknown data organization",
    "Unsupported BMP pixel depth",
    "Unsupported BMP bitfields",
    "Unsupported BMP compression",
    "cannot handle",
)
"""How Pillow's messages begin for a whole file in a flavour it does not read."""


def image_error(error: Exception, name: Format, *, ends_early: bool = False) -> ImageError:
    """Translate one of `BROKEN_FILE_ERRORS`; `ends_early` as in `Container`."""
    message = str(error)
    if message.startswith(_UNKNOWN_KINDS):
        return unsupported_kind(name, "pixels in a layout that is not read")
    if isinstance(error, MemoryError):
        return undecodable(name, "there is not enough memory to decode it")
    if ends_early or "truncated" in message.lower():
        return truncated(name)
    return undecodable(name, "its data cannot be decoded")
