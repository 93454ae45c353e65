"""JPEG: the markers up to the end of the image, its size, orientation, scans and metadata."""

from __future__ import annotations

import re

from ray_trash.errors import ImageError
from ray_trash.image.container.layout import (
    MAX_BLOCKS,
    MAX_JPEG_PIXELS,
    MAX_PIXELS,
    Container,
    check_pixels,
    check_scans,
    fields,
    truncated,
    undecodable,
    unsupported_kind,
)
from ray_trash.image.container.tiff import orientation_of

# Skips stuffed bytes (ff00), fill bytes (ffff) and the markers that have no length: restarts and SOI.
_NEXT_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])", re.DOTALL)

_START_OF_FRAME = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})
"""Baseline, extended and progressive, Huffman or arithmetic coded."""
_OTHER_FRAMES = frozenset({0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF})
"""Lossless and hierarchical, which libjpeg cannot scale while it decodes."""
_END_OF_IMAGE = 0xD9
_START_OF_SCAN = 0xDA
_EXIF = 0xE1
# APP0 (JFIF) and APP14 (Adobe) say what the colour channels are; the other APPn and comments are metadata.
_METADATA = frozenset({*range(0xE1, 0xEE), 0xEF, 0xFE})

_COEFFICIENT_BYTES = 2
_MAX_HELD_BYTES = 3 * _COEFFICIENT_BYTES * MAX_PIXELS
"""What libjpeg may keep of a picture that comes in several scans, which it cannot scale before the last one: all its
coefficients. 160 million pixels of the usual half colour resolution, 80 million of the full one."""

_PIXELS_PER_BYTE_MAX = 8 * 64
"""A Huffman code has at least one bit, and each 8x8 block of a component needs at least one code."""


def read_jpeg(encoded: bytes) -> Container:
    """Walk a JPEG's markers from its start to its end-of-image."""
    size: tuple[int, int] | None = None
    orientation = 1
    scans = samples = 0
    huffman = True
    kept: list[bytes | memoryview] = []
    whole = memoryview(encoded)
    keep_from = position = 0
    for _ in range(MAX_BLOCKS):
        match = _NEXT_MARKER.search(encoded, position)
        if match is None:
            raise truncated("JPEG")
        start, marker = match.start(), match[1][0]
        if marker == _END_OF_IMAGE:
            kept.append(whole[keep_from : start + 2])
            break
        (length,) = fields("JPEG", ">H", encoded, start + 2)
        position = start + 2 + length
        if length < 2:
            raise undecodable("JPEG", "a segment is shorter than its own header")
        if position > len(encoded):
            raise truncated("JPEG")
        if marker in _START_OF_FRAME:
            if size is not None:
                raise undecodable("JPEG", "it has two frame headers")
            bits, height_px, width_px = fields("JPEG", ">BHH", encoded, start + 4)
            if bits != 8:
                raise unsupported_kind("JPEG", f"samples of {bits} bits")
            huffman = marker < 0xC9
            # Arithmetic codes may say next to nothing of millions of pixels, and no camera writes them.
            check_pixels("JPEG", width_px, height_px, most=MAX_JPEG_PIXELS if huffman else MAX_PIXELS)
            size, samples = (width_px, height_px), _samples(encoded[start + 9 : position], width_px * height_px)
        elif marker in _OTHER_FRAMES:
            raise unsupported_kind("JPEG", "a lossless or hierarchical picture")
        elif marker == _START_OF_SCAN:
            scans += 1
        elif marker in _METADATA:
            if marker == _EXIF and orientation == 1:
                orientation = orientation_of(encoded[start + 4 : position])
            kept.append(whole[keep_from:start])
            keep_from = position
    else:
        raise undecodable("JPEG", f"it has more than {MAX_BLOCKS:,} segments")
    if size is None or scans == 0:
        raise undecodable("JPEG", "there is no picture in it")
    picture = encoded if len(kept) == 1 and len(kept[0]) == len(encoded) else b"".join(kept)
    pixels = size[0] * size[1]
    held_bytes = samples * _COEFFICIENT_BYTES if scans > 1 else 0
    if held_bytes > _MAX_HELD_BYTES:
        what = f"the JPEG file's {size[0]}x{size[1]} pixels come in {scans} scans, which takes too much memory"
        raise ImageError(
            "too_many_pixels", f"{what}; save it smaller, or as a baseline JPEG instead of a progressive one"
        )
    check_scans("JPEG", scans, pixels)
    if huffman and pixels > _PIXELS_PER_BYTE_MAX * len(picture):
        raise truncated("JPEG")
    return Container("JPEG", *size, picture, orientation, held_bytes=held_bytes)


def _samples(components: bytes, pixels: int) -> int:
    """Count the samples of all components, each of which stores a part of the pixels."""
    factors = [(packed >> 4) * (packed & 15) for packed in components[2::3]]
    return pixels * sum(factors) // max([1, *factors])
