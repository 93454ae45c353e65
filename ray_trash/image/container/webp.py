"""WebP: the canvas, from whichever of its three kinds of header, and the orientation.

Not left to Pillow, which takes memory for two canvases before it says how large they are.
"""

from __future__ import annotations

from ray_trash.image.container.layout import MAX_BLOCKS, Container, fields, truncated, undecodable
from ray_trash.image.container.tiff import orientation_of

_RIFF_HEADER_BYTES = 8
_FIRST_CHUNK = 12
_KEYFRAME_START_CODE = b"\x9d\x01\x2a"
_LOSSLESS_SIGNATURE = 0x2F


def read_webp(encoded: bytes) -> Container:
    """Measure a WebP file's canvas; an animation is its first frame."""
    (riff_bytes,) = fields("WEBP", "<I", encoded, 4)
    if _RIFF_HEADER_BYTES + riff_bytes > len(encoded):
        raise truncated("WEBP")
    kind = encoded[12:16]
    orientation = 1
    if kind == b"VP8X":
        low_width, high_width, low_height, high_height = fields("WEBP", "<HBHB", encoded, 24)
        width_px, height_px = 1 + low_width + (high_width << 16), 1 + low_height + (high_height << 16)
        orientation = _orientation(encoded)
    elif kind == b"VP8 ":
        width_px, height_px = (side & 0x3FFF for side in fields("WEBP", "<HH", encoded, 26))
        if encoded[23:26] != _KEYFRAME_START_CODE:
            raise undecodable("WEBP", "its first frame has no start code")
    elif kind == b"VP8L":
        signature, packed = fields("WEBP", "<BI", encoded, 20)
        width_px, height_px = 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
        if signature != _LOSSLESS_SIGNATURE:
            raise undecodable("WEBP", "its lossless data has no signature")
    else:
        raise undecodable("WEBP", "it does not begin with a picture")
    return Container("WEBP", width_px, height_px, encoded, orientation)


def _orientation(encoded: bytes) -> int:
    position = _FIRST_CHUNK
    for _ in range(MAX_BLOCKS):
        if position + 8 > len(encoded):
            return 1
        (length,) = fields("WEBP", "<I", encoded, position + 4)
        if encoded.startswith(b"EXIF", position):
            return orientation_of(encoded[position + 8 : position + 8 + length])
        position += 8 + length + length % 2
    raise undecodable("WEBP", f"it has more than {MAX_BLOCKS:,} chunks")
