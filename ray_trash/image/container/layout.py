"""What every format's reader gives and shares: the measured file, the limits, and the refusals.

Whatever checks here raises an `ImageError` of the code that its first line names.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

from ray_trash.errors import ImageError

Format = Literal["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "HEIC"]
"""The formats that are opened."""

MAX_PIXELS = 80_000_000
"""Largest picture that is decoded whole, in pixels: above the 50 million that phones keep in every format, below
Pillow's own warning."""

MAX_JPEG_PIXELS = 250_000_000
"""Largest JPEG that is decoded at a fraction of its size, in pixels: above the 200 million of phones."""

MAX_BLOCKS = 100_000
"""Most segments, chunks, strips or tiles one file may have; each costs Python time to walk over."""

MAX_SCANS = 100
"""Most scans of a JPEG; encoders write 1 to 20. Source: libtiff's own default for JPEG inside TIFF."""

MAX_SCANNED_PIXELS = 1_600_000_000
"""Scans times pixels of a JPEG. A scan with hardly any bytes still walks the whole picture, at 0.1 to 0.9 ns a
pixel, so this bounds the decode to about 1.5 seconds; 160 million pixels in the usual 10 scans are within it."""


@dataclass(frozen=True)
class Container:
    """One file, measured.

    Attributes:
        format: What it is.
        width_px: Width as stored, before the orientation is applied, in pixels.
        height_px: Height as stored, in pixels.
        picture: The file without its metadata; decodes to the same pixels.
        orientation: EXIF orientation, 1 to 8; 1 is upright.
        ends_early: The bytes end before the file says they do; its picture may be whole all the same.
        sample_bits: Bits of one sample as stored.
        zero_is_white: Grey samples are stored inverted.
        held_bytes: What a decoder keeps of the whole picture, however small it is wanted.
    """

    format: Format
    width_px: int
    height_px: int
    picture: bytes
    orientation: int = 1
    ends_early: bool = False
    sample_bits: int = 8
    zero_is_white: bool = False
    held_bytes: int = 0


def truncated(name: Format) -> ImageError:
    """Return the refusal of a file that ends before its picture does."""
    return ImageError("truncated", f"the {name} file ends before its picture does; copy or download it again")


def undecodable(name: Format, problem: str) -> ImageError:
    """Return the refusal of a file that is of a supported format, and broken."""
    return ImageError("undecodable", f"the {name} file is broken: {problem}; save it again")


def unsupported_kind(name: Format, kind: str) -> ImageError:
    """Return the refusal of a whole file of a supported format, in a flavour that is not read."""
    return ImageError("unsupported_format", f"the {name} file holds {kind}; save it as an 8-bit JPEG or PNG")


def fields(name: Format, layout: str, encoded: bytes, start: int) -> tuple[int, ...]:
    """Unpack integers at a place in the file; `truncated` where the file ends before them."""
    if start + struct.calcsize(layout) > len(encoded):
        raise truncated(name)
    return struct.unpack_from(layout, encoded, start)


def check_pixels(name: Format, width_px: int, height_px: int, *, most: int = MAX_PIXELS) -> None:
    """Refuse a picture of no pixels, `undecodable`, or of more than are decoded, `too_many_pixels`."""
    if width_px < 1 or height_px < 1:
        raise undecodable(name, f"its header gives a size of {width_px}x{height_px} pixels")
    if width_px * height_px > most:
        raise ImageError(
            "too_many_pixels",
            f"the {name} file's header gives {width_px}x{height_px} pixels, more than the "
            f"{most:,} that are decoded; save it smaller",
        )


def check_scans(name: Format, scans: int, pixels_per_scan: int) -> None:
    """Refuse a JPEG that would be walked over too often, `undecodable`."""
    if scans > MAX_SCANS or scans * pixels_per_scan > MAX_SCANNED_PIXELS:
        raise undecodable(name, f"{scans} scans over {pixels_per_scan:,} pixels would take too long to decode")
