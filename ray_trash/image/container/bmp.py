"""BMP: the header, and whether the rows it promises are there."""

from __future__ import annotations

from ray_trash.image.container.layout import (
    Container,
    check_pixels,
    fields,
    truncated,
    undecodable,
    unsupported_kind,
)

_FILE_HEADER_BYTES = 14
_OS2_HEADER_BYTES = 12
_RAW, _RLE8, _RLE4, _BITFIELDS = range(4)

_RUN_LENGTH_PIXELS_MAX = 10_000_000
_RUN_LENGTH_BYTES_MAX = 2 << 20
"""Pillow expands run lengths in Python: about a microsecond for each code of two bytes, and up to 0.1 for
each pixel. The two limits bound that to about two seconds."""


def read_bmp(encoded: bytes) -> Container:
    """Measure a BMP.

    Raises:
        ImageError: `truncated` where it is shorter than its rows, `undecodable`, `unsupported_format`, or
            `too_many_pixels`.
    """
    data_start, header_bytes = fields("BMP", "<II", encoded, 10)
    if header_bytes == _OS2_HEADER_BYTES:
        width_px, height_px, bits = fields("BMP", "<HHxxH", encoded, 18)
        compression = _RAW
    elif header_bytes >= 40:
        width_px, height_px, bits, compression = fields("BMP", "<iixxHI", encoded, 18)
    else:
        raise undecodable("BMP", f"no BMP has a header of {header_bytes} bytes")
    height_px = abs(height_px)  # negative: the rows are stored from the top
    check_pixels("BMP", width_px, height_px)
    pixels_start = data_start or _FILE_HEADER_BYTES + header_bytes
    if compression in (_RLE8, _RLE4):
        if width_px * height_px > _RUN_LENGTH_PIXELS_MAX or len(encoded) - pixels_start > _RUN_LENGTH_BYTES_MAX:
            raise undecodable("BMP", "its run lengths would take too long to expand")
        ends_early = pixels_start >= len(encoded)
    elif compression in (_RAW, _BITFIELDS):
        row_bytes = (width_px * bits + 31) // 32 * 4
        ends_early = pixels_start + row_bytes * height_px > len(encoded)
    else:
        raise unsupported_kind("BMP", "a compressed picture")
    if ends_early:
        raise truncated("BMP")
    return Container("BMP", width_px, height_px, encoded)
