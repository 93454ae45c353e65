"""TIFF: the first directory of tags; and EXIF, which is one, for the orientation."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from ray_trash.errors import ImageError
from ray_trash.image.container.layout import (
    MAX_BLOCKS,
    Container,
    check_pixels,
    check_scans,
    fields,
    truncated,
    undecodable,
    unsupported_kind,
)

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_STRIP_OFFSETS, _ORIENTATION, _SAMPLES_PER_PIXEL, _ROWS_PER_STRIP, _STRIP_BYTES = 273, 274, 277, 278, 279
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES = 322, 323, 324, 325

# Tags of one value, and of several, that say how to read the pixels: fill order, samples a pixel, planes,
# fax options, predictor, colour map, inks, extra samples, sample format, JPEG tables, YCbCr.
_SINGLE = frozenset(
    {_WIDTH, _HEIGHT, _COMPRESSION, _PHOTOMETRIC, 266, _SAMPLES_PER_PIXEL, _ROWS_PER_STRIP, 284, 292, 293, 317}
    | {_TILE_WIDTH, _TILE_HEIGHT, 332, 531}
)
_SEVERAL = frozenset(
    {_BITS, _STRIP_OFFSETS, _STRIP_BYTES, 320, _TILE_OFFSETS, _TILE_BYTES, 338, 339, 347} | {529, 530, 532}
)

_NO_COMPRESSION, _JPEG = 1, 7
# Also fax, LZW, deflate by both its numbers, PackBits, Zstandard and WebP. Not LZMA, whose header alone may ask for
# gigabytes, and not the JPEG of TIFF 6.0 that its own authors withdrew.
_COMPRESSIONS = frozenset({_NO_COMPRESSION, 2, 3, 4, 5, _JPEG, 8, 32773, 32946, 50000, 50001})
_WHITE_IS_ZERO = 0
_SAMPLES_PER_PIXEL_MAX = 6
"""What Pillow reads: CMYK and two more. Beyond it Pillow logs an error of its own."""
_START_OF_SCAN = b"\xff\xda"

_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_TYPE_BYTES |= {16: 8, 17: 8, 18: 8}
"""Bytes of a value by type. Source: TIFF 6.0, section 2; BigTIFF adds 16 to 18."""
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}


@dataclass(frozen=True)
class _Entry:
    kind: int
    count: int
    inline: bytes  # the value where it fits, else its place in the file

    @property
    def size_bytes(self) -> int:
        return _TYPE_BYTES[self.kind] * self.count


class _Directory:
    """The first directory of a TIFF or BigTIFF file."""

    def __init__(self, encoded: bytes) -> None:
        self._encoded = encoded
        self.order = "<" if encoded.startswith(b"II") else ">"
        self.is_big = encoded[2:4] in (b"+\x00", b"\x00+")
        word = self.word = "Q" if self.is_big else "I"
        (self.start,) = fields("TIFF", self.order + word, encoded, 8 if self.is_big else 4)
        count_layout = self.order + ("Q" if self.is_big else "H")
        (count,) = fields("TIFF", count_layout, encoded, self.start)
        if count > MAX_BLOCKS:
            raise undecodable("TIFF", f"it has {count:,} tags")
        position = self.start + struct.calcsize(count_layout)
        layout = struct.Struct(f"{self.order}HH{word}{8 if self.is_big else 4}s")
        if position + count * layout.size > len(encoded):
            raise truncated("TIFF")
        self.entries: dict[int, _Entry] = {}
        for tag, kind, values, inline in layout.iter_unpack(
            memoryview(encoded)[position : position + count * layout.size]
        ):
            if kind in _TYPE_BYTES and values > 0:
                self.entries.setdefault(tag, _Entry(kind, values, inline))

    def place(self, tag: int) -> int | None:
        """Return where a tag's values start in the file; None where they are inside the directory."""
        entry = self.entries[tag]
        if entry.size_bytes <= len(entry.inline):
            return None
        (start,) = struct.unpack(self.order + self.word, entry.inline)
        if start + entry.size_bytes > len(self._encoded):
            raise truncated("TIFF")
        return int(start)

    def integers(self, tag: int, default: Sequence[int] = ()) -> Sequence[int]:
        """Return a tag's values, or the default where it is missing or not of an integer type."""
        entry = self.entries.get(tag)
        if entry is None or entry.kind not in _INTEGERS:
            return default
        if entry.count > MAX_BLOCKS:
            raise undecodable("TIFF", f"its picture has {entry.count:,} parts")
        start = self.place(tag)
        values: tuple[int, ...] = struct.unpack_from(
            f"{self.order}{entry.count}{_INTEGERS[entry.kind]}",
            entry.inline if start is None else self._encoded,
            start or 0,
        )
        return values

    def integer(self, tag: int, default: int = 0) -> int:
        """Return a tag's first value."""
        return self.integers(tag, (default,))[0]


def orientation_of(exif: bytes) -> int:
    """Read the orientation from EXIF data, with or without its `Exif` prefix.

    Returns:
        1 to 8; 1, upright, where the data is damaged, silent or nonsense.
    """
    tiff = exif.removeprefix(b"Exif\x00\x00")
    if not tiff.startswith((b"II*\x00", b"MM\x00*")):
        return 1
    try:
        orientation = _Directory(tiff).integer(_ORIENTATION, 1)
    except ImageError:
        return 1
    return orientation if orientation in range(1, 9) else 1


def read_tiff(encoded: bytes) -> Container:
    """Measure the first picture of a TIFF file.

    Raises:
        ImageError: `truncated` where tags or pixels lie beyond its end, `undecodable`, `unsupported_format`, or
            `too_many_pixels`, which counts the margin of its tiles.
    """
    directory = _Directory(encoded)
    width_px, height_px = directory.integer(_WIDTH), directory.integer(_HEIGHT)
    check_pixels("TIFF", width_px, height_px)
    samples = directory.integer(_SAMPLES_PER_PIXEL, 1)
    if samples > _SAMPLES_PER_PIXEL_MAX:
        raise unsupported_kind("TIFF", f"{samples} samples a pixel")
    _check_parts(encoded, directory, width_px, height_px)
    bits = directory.integers(_BITS, (1,))
    return Container(
        "TIFF",
        width_px,
        height_px,
        _without_metadata(encoded, directory),
        directory.integer(_ORIENTATION, 1),
        sample_bits=bits[0],
        zero_is_white=directory.integer(_PHOTOMETRIC) == _WHITE_IS_ZERO,
    )


def _check_parts(encoded: bytes, directory: _Directory, width_px: int, height_px: int) -> None:
    compression = directory.integer(_COMPRESSION, _NO_COMPRESSION)
    if compression not in _COMPRESSIONS:
        raise unsupported_kind("TIFF", f"a picture in compression {compression}")
    if _STRIP_OFFSETS in directory.entries:
        offsets, sizes = directory.integers(_STRIP_OFFSETS), directory.integers(_STRIP_BYTES)
        part_pixels = width_px * min(directory.integer(_ROWS_PER_STRIP, height_px), height_px)
    else:
        offsets, sizes = directory.integers(_TILE_OFFSETS), directory.integers(_TILE_BYTES)
        tile_width, tile_height = directory.integer(_TILE_WIDTH), directory.integer(_TILE_HEIGHT)
        if tile_width < 1 or tile_height < 1:
            raise undecodable("TIFF", "it has no strips and no tiles")
        across, down = -(-width_px // tile_width), -(-height_px // tile_height)
        check_pixels("TIFF", across * tile_width, down * tile_height)
        part_pixels = tile_width * tile_height
    if not offsets:
        raise undecodable("TIFF", "it has no pixels")
    if compression == _NO_COMPRESSION:
        row_bits = width_px * sum(directory.integers(_BITS, (1,)))
        if max(offsets) >= len(encoded) or row_bits * height_px > 8 * len(encoded):
            raise truncated("TIFF")
        return
    parts = list(zip(offsets, sizes, strict=False))
    if any(start + size > len(encoded) for start, size in parts):
        raise truncated("TIFF")
    if sum(sizes) > len(encoded):
        # Each part is read and counted for itself, so a small file could ask for hours of work.
        raise undecodable("TIFF", "its strips or tiles lie over one another")
    if compression == _JPEG:
        # The scans of one part are limited by libtiff itself, the work of all of them is not.
        scans = sum(encoded.count(_START_OF_SCAN, start, start + size) for start, size in parts)
        check_scans("TIFF", -(-scans // len(parts)) if parts else 0, part_pixels * len(parts))


def _without_metadata(encoded: bytes, directory: _Directory) -> bytes:
    """Return the file with a directory of picture tags alone."""
    tags = sorted(tag for tag in directory.entries if tag in _SINGLE or tag in _SEVERAL)
    order, word = directory.order, directory.word
    layout = struct.Struct(f"{order}HH{word}{8 if directory.is_big else 4}s")
    rows: list[bytes] = []
    data_bytes = 0
    for tag in tags:
        entry = directory.entries[tag]
        start = directory.place(tag)
        count, inline = entry.count, entry.inline
        if tag in _SINGLE and count > 1:
            # Pillow warns of a second value; it uses the first.
            size = _TYPE_BYTES[entry.kind]
            if size > len(inline):
                raise undecodable("TIFF", f"tag {tag} has the wrong type")
            first = inline[:size] if start is None else encoded[start : start + size]
            count, inline = 1, first.ljust(len(inline), b"\x00")
        elif start is not None:
            data_bytes += entry.size_bytes
        rows.append(layout.pack(tag, entry.kind, count, inline))
    if data_bytes > len(encoded):
        raise undecodable("TIFF", "its tags claim more bytes than the file has")
    # In the old directory's place, which it fits into: a strip that runs past the end still does.
    count_bytes = struct.pack(order + ("Q" if directory.is_big else "H"), len(rows))
    no_next = struct.pack(order + word, 0)
    new = b"".join([count_bytes, *rows, no_next])
    return b"".join([encoded[: directory.start], new, encoded[directory.start + len(new) :]])
