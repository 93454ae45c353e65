"""The one decode policy: a file's bytes to an upright 8-bit RGB photo, or an `ImageError` that says why not.

JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF and HEIC by content; the first frame of an animation or a multi-page file. EXIF
orientation is applied, or AVIF's and HEIC's own; colour profiles are not. Grey, palette, CMYK, YCbCr and LAB become
RGB; transparency is laid over white, so colours hidden under it never show; 16-bit samples keep their high byte.

The work is bounded by what `container` reads from the header, so the same file gets the same answer on a fast
machine and a slow one; the wall clock is the second line. Nothing global is read or changed: any number of
threads may decode at once.
"""

from __future__ import annotations

import io
import time

import numpy as np
from PIL import Image

from ray_trash.image.container import MAX_FILE_BYTES, read_container
from ray_trash.image.container.layout import MAX_PIXELS, Container, check_pixels, undecodable, unsupported_kind
from ray_trash.image.container.pillow import BROKEN_FILE_ERRORS, OPENERS, image_error

__all__ = ["MAX_FILE_BYTES", "MAX_PIXELS", "decode_photo", "decoding_bytes", "open_photo"]

DECODE_TIMEOUT_S = 20.0
"""Wall clock of one decode in seconds, checked whenever Pillow asks for more bytes."""

_DRAFT_MARGIN = 2
"""A scaled JPEG decode keeps at least this multiple of the short side asked for, so that the resize that
follows still averages over two pixels and more."""

_SCALES = (8, 4, 2)
"""What libjpeg divides both sides by while it decodes. Source: Pillow's `JpegImageFile.draft`."""

_BYTES_PER_PIXEL = 8
_HEIF_BYTES_PER_PIXEL = 10
"""Measured, as stored and as RGB together; of AVIF and HEIC also as YCbCr, twice as much where they have 12 bits."""

_BAND_PIXELS = 4_000_000
"""Colour conversion goes by bands of about this many pixels: its copies stay small beside the photo."""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns a photo upright, by EXIF orientation. Source: EXIF 2.32, tag 0x0112."""


class _Late(Exception):
    """The wall clock ran out. No subclass of what Pillow catches itself."""


class _TimedFile(io.BytesIO):
    """A file in memory that refuses to be read past a moment."""

    def __init__(self, encoded: bytes, deadline_s: float) -> None:
        super().__init__(encoded)
        self._deadline_s = deadline_s

    def read(self, size: int | None = -1, /) -> bytes:
        if time.monotonic() > self._deadline_s:
            raise _Late
        return super().read(size)


def decode_photo(encoded: bytes, *, min_short_side_px: int) -> np.ndarray:
    """Decode a whole file to an array (height, width, 3), uint8, RGB, upright, C-contiguous.

    A JPEG with a short side of more than four times `min_short_side_px` comes smaller, for speed, by a power of two
    that leaves it at least twice that. One of more than `MAX_PIXELS` always comes smaller.

    Raises:
        ImageError: The photo cannot be used; `code` and message say why.
    """
    return np.array(open_photo(encoded, min_short_side_px=min_short_side_px))


def decoding_bytes(container: Container, min_short_side_px: int) -> int:
    """Say about how much memory it takes to decode a measured photo, beside its file."""
    pixels = container.width_px * container.height_px
    if container.format in ("AVIF", "HEIC"):
        return _HEIF_BYTES_PER_PIXEL * pixels
    if container.format != "JPEG":
        return _BYTES_PER_PIXEL * pixels
    fits = min(container.width_px, container.height_px) // _draft_px(container, min_short_side_px)
    scale = next((scale for scale in _SCALES if scale <= fits), 1)
    return container.held_bytes + _BYTES_PER_PIXEL * pixels // scale**2


def open_photo(
    encoded: bytes | Container, *, min_short_side_px: int, timeout_s: float = DECODE_TIMEOUT_S
) -> Image.Image:
    """Decode a photo, measured or not, as `decode_photo` does, with its errors, to a Pillow image of mode RGB."""
    container = encoded if isinstance(encoded, Container) else read_container(encoded)
    file = _TimedFile(container.picture, time.monotonic() + timeout_s)
    try:
        image = OPENERS[container.format](file)
        if image.mode in ("I", "F"):
            raise unsupported_kind(container.format, "signed, 32-bit or floating-point samples")
        if container.format == "JPEG":
            draft_px = _draft_px(container, min_short_side_px)
            image.draft(None, (draft_px, draft_px))
        # In the decoder's own words, before it decodes.
        check_pixels(container.format, *image.size)
        image.load()
        photo = _to_rgb(image, container)
    except _Late as error:
        raise undecodable(container.format, f"decoding took more than {timeout_s:g} s") from error
    except BROKEN_FILE_ERRORS as error:
        raise image_error(error, container.format, ends_early=container.ends_early) from error
    turn = _UPRIGHT.get(container.orientation)
    return photo if turn is None else photo.transpose(turn)


def _draft_px(container: Container, min_short_side_px: int) -> int:
    draft_px = _DRAFT_MARGIN * min_short_side_px
    if container.width_px * container.height_px > MAX_PIXELS:
        return min(draft_px, min(container.width_px, container.height_px) // 2)
    return draft_px


def _to_rgb(image: Image.Image, container: Container) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    _correct_transparent_colour(image, container)
    width_px, height_px = image.size
    band_rows = max(1, _BAND_PIXELS // width_px)
    if band_rows >= height_px:
        return _flattened(image, container)
    photo = Image.new("RGB", image.size)
    for top in range(0, height_px, band_rows):
        band = image.crop((0, top, width_px, min(top + band_rows, height_px)))
        photo.paste(_flattened(band, container), (0, top))
    return photo


def _correct_transparent_colour(image: Image.Image, container: Container) -> None:
    # Pillow scales a PNG's samples to 8 bits, and leaves its transparent colour at the stored bits.
    colour = image.info.get("transparency")
    if image.mode == "RGB" and isinstance(colour, tuple) and container.sample_bits == 16:
        image.info["transparency"] = tuple(value >> 8 for value in colour)
    elif image.mode == "L" and isinstance(colour, int) and container.sample_bits < 8:
        image.info["transparency"] = colour * 255 // ((1 << container.sample_bits) - 1)


def _flattened(image: Image.Image, container: Container) -> Image.Image:
    if image.mode.startswith("I;16"):
        image = _high_byte(image, container)
    if not image.has_transparency_data:
        return image.convert("RGB")
    if image.mode == "La":
        image = image.convert("LA")  # Pillow knows no direct way from premultiplied grey
    layer = image.convert("RGBA")
    photo = Image.new("RGB", image.size, "white")
    photo.paste(layer, (0, 0), layer)
    return photo


def _high_byte(image: Image.Image, container: Container) -> Image.Image:
    samples = np.asarray(image)  # (height, width), uint16
    # The exact inverse of both ways to store 8 bits in 16: v * 257 and v << 8.
    grey = (samples >> (container.sample_bits - 8)).astype(np.uint8)
    if container.zero_is_white:
        grey = 255 - grey
    photo = Image.fromarray(grey)
    colour = image.info.get("transparency")
    if colour is not None:
        photo.putalpha(Image.fromarray(np.where(samples == colour, np.uint8(0), np.uint8(255))))
    return photo
