"""GIF: the canvas and the first frame, the only one that is looked at.

Not left to Pillow, which warns, through Python's global filters, of a frame that makes the canvas too large.
"""

from __future__ import annotations

from ray_trash.image.container.layout import MAX_BLOCKS, Container, fields, truncated, undecodable

_HEADER_BYTES = 13
_EXTENSION = 0x21
_IMAGE = 0x2C
_TRAILER = 0x3B


def read_gif(encoded: bytes) -> Container:
    """Measure a GIF's canvas, grown where its first frame reaches beyond it, as Pillow grows it."""
    width_px, height_px, flags = fields("GIF", "<HHBxx", encoded, 6)
    position = _HEADER_BYTES + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    for _ in range(MAX_BLOCKS):
        (introducer,) = fields("GIF", "B", encoded, position)
        if introducer == _IMAGE:
            break
        if introducer == _EXTENSION:
            position = _end_of_sub_blocks(encoded, position + 2)
        elif introducer == _TRAILER:
            raise undecodable("GIF", "it has no frame")
        else:
            position += 1
    else:
        raise undecodable("GIF", f"there are more than {MAX_BLOCKS:,} blocks before its first frame")
    left, top, frame_width, frame_height = fields("GIF", "<xHHHHx", encoded, position)
    size = max(width_px, left + frame_width), max(height_px, top + frame_height)
    return Container("GIF", *size, encoded, ends_early=not encoded.endswith(bytes([_TRAILER])))


def _end_of_sub_blocks(encoded: bytes, position: int) -> int:
    for _ in range(MAX_BLOCKS):
        if position >= len(encoded):
            raise truncated("GIF")
        length = encoded[position]
        position += 1 + length
        if length == 0:
            return position
    raise undecodable("GIF", f"an extension has more than {MAX_BLOCKS:,} parts")
