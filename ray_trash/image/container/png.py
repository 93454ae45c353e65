"""PNG: the chunks, its size, and the few that are picture."""

from __future__ import annotations

from ray_trash.image.container.layout import MAX_BLOCKS, Container, check_pixels, fields, truncated, undecodable
from ray_trash.image.container.tiff import orientation_of

_SIGNATURE_BYTES = 8
_PICTURE = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples of a pixel by colour type."""
_DEFLATE_RATIO_MAX = 1032
"""No deflate stream expands more. Source: zlib's technical details, "Maximum Compression Factor"."""


def read_png(encoded: bytes) -> Container:
    """Walk a PNG's chunks; an animation is its default picture."""
    length, width_px, height_px, bits, colour_type = fields("PNG", ">I4xIIBB", encoded, 8)
    if encoded[12:16] != b"IHDR" or length != 13 or colour_type not in _CHANNELS:
        raise undecodable("PNG", "it does not begin with a header chunk")
    check_pixels("PNG", width_px, height_px)
    whole = memoryview(encoded)
    kept = [whole[:_SIGNATURE_BYTES]]
    orientation = 1
    data_bytes = 0
    ends_early = True
    position = _SIGNATURE_BYTES
    for _ in range(MAX_BLOCKS):
        if position + 8 > len(encoded):
            break
        (length,) = fields("PNG", ">I", encoded, position)
        kind = encoded[position + 4 : position + 8]
        end = position + 12 + length
        if kind in _PICTURE:
            kept.append(whole[position:end])
            data_bytes += length if kind == b"IDAT" else 0
        elif kind == b"eXIf":
            orientation = orientation_of(encoded[position + 8 : end - 4])
        position = end
        if kind == b"IEND":
            ends_early = end > len(encoded)
            break
    else:
        raise undecodable("PNG", f"it has more than {MAX_BLOCKS:,} chunks")
    row_bytes = 1 + (width_px * bits * _CHANNELS[colour_type] + 7) // 8
    if row_bytes * height_px > _DEFLATE_RATIO_MAX * min(data_bytes, len(encoded)):
        raise truncated("PNG") if ends_early else undecodable("PNG", "it has too little data")
    return Container("PNG", width_px, height_px, b"".join(kept), orientation, ends_early, sample_bits=bits)
