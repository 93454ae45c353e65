"""TIFF: the first directory of tags; and EXIF, which is one, for the orientation.

Not left to Pillow, which reads every tag's data, as often as tags claim the same bytes, and warns of odd ones.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

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

_REDUCED, _DNG_VERSION = 254, 50706
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

_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes of a value by type. Source: TIFF 6.0, section 2; BigTIFF adds 16 to 18."""
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}


class _Entry(NamedTuple):
    kind: int
    n_values: int
    inline: bytes  # the value where it fits, else its place in the file

    @property
    def size_bytes(self) -> int:
        return _TYPE_BYTES[self.kind] * self.n_values


class _Directory:
    """The first directory of a TIFF or BigTIFF file."""

    def __init__(self, encoded: bytes) -> None:
        self.encoded = encoded
        order = "<" if encoded.startswith(b"II") else ">"
        is_big = encoded[2:4] in (b"+\x00", b"\x00+")
        self.order, self.word, self.count = (order, "Q", "Q") if is_big else (order, "I", "H")
        self.row = struct.Struct(f"{order}HH{self.word}{8 if is_big else 4}s")
        (self.start,) = fields("TIFF", order + self.word, encoded, 8 if is_big else 4)
        (n_tags,) = fields("TIFF", order + self.count, encoded, self.start)
        if n_tags > MAX_BLOCKS:
            raise undecodable("TIFF", f"it has {n_tags:,} tags")
        first = self.start + struct.calcsize(order + self.count)
        end = first + n_tags * self.row.size
        if end > len(encoded):
            raise truncated("TIFF")
        self.entries: dict[int, _Entry] = {}
        for tag, *entry in self.row.iter_unpack(memoryview(encoded)[first:end]):
            if entry[0] in _TYPE_BYTES and entry[1] > 0:
                self.entries.setdefault(tag, _Entry(*entry))

    def data(self, entry: _Entry) -> tuple[bytes, int]:
        """Return what holds a tag's values, itself or the file, and where they start in it."""
        if entry.size_bytes <= len(entry.inline):
            return entry.inline, 0
        (start,) = struct.unpack(self.order + self.word, entry.inline)
        if start + entry.size_bytes > len(self.encoded):
            raise truncated("TIFF")
        return self.encoded, start

    def integers(self, tag: int, default: Sequence[int] = ()) -> Sequence[int]:
        """Return a tag's values. Default: where it is missing or not of an integer type."""
        entry = self.entries.get(tag)
        if entry is None or entry.kind not in _INTEGERS:
            return default
        if entry.n_values > MAX_BLOCKS:
            raise undecodable("TIFF", f"its picture has {entry.n_values:,} parts")
        return struct.unpack_from(f"{self.order}{entry.n_values}{_INTEGERS[entry.kind]}", *self.data(entry))

    def integer(self, tag: int, default: int = 0) -> int:
        """Return a tag's first value."""
        return self.integers(tag, (default,))[0]


def orientation_of(exif: bytes) -> int:
    """Read the orientation, 1 to 8, from EXIF data; 1, upright, where they are damaged, silent or nonsense."""
    tiff = exif.removeprefix(b"Exif\x00\x00")
    if not tiff.startswith((b"II*\x00", b"MM\x00*")):
        return 1
    try:
        orientation = _Directory(tiff).integer(_ORIENTATION, 1)
    except ImageError:
        return 1
    return orientation if orientation in range(1, 9) else 1


def read_tiff(encoded: bytes) -> Container:
    """Measure the first picture of a TIFF file; the margin of its tiles counts as pixels too."""
    directory = _Directory(encoded)
    if encoded.startswith(b"CR", 8) or _DNG_VERSION in directory.entries or directory.integer(_REDUCED) & 1:
        # DNG (Apple's ProRAW too), CR2, NEF, ARW: what comes first is a thumbnail, at best.
        raise unsupported_kind("TIFF", "a camera's raw picture")
    size = directory.integer(_WIDTH), directory.integer(_HEIGHT)
    check_pixels("TIFF", *size)
    samples = directory.integer(_SAMPLES_PER_PIXEL, 1)
    if samples > _SAMPLES_PER_PIXEL_MAX:
        raise unsupported_kind("TIFF", f"{samples} samples a pixel")
    _check_parts(directory, *size)
    return Container(
        "TIFF",
        *size,
        _without_metadata(directory),
        directory.integer(_ORIENTATION, 1),
        sample_bits=directory.integer(_BITS, 1),
        zero_is_white=directory.integer(_PHOTOMETRIC) == _WHITE_IS_ZERO,
    )


def _check_parts(directory: _Directory, width_px: int, height_px: int) -> None:
    compression, file_bytes = directory.integer(_COMPRESSION, _NO_COMPRESSION), len(directory.encoded)
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
        check_pixels("TIFF", -(-width_px // tile_width) * tile_width, -(-height_px // tile_height) * tile_height)
        part_pixels = tile_width * tile_height
    if not offsets:
        raise undecodable("TIFF", "it has no pixels")
    if compression == _NO_COMPRESSION:
        row_bits = width_px * sum(directory.integers(_BITS, (1,)))
        if max(offsets) >= file_bytes or row_bits * height_px > 8 * file_bytes:
            raise truncated("TIFF")
        return
    parts = list(zip(offsets, sizes, strict=False))
    if any(start + size > file_bytes for start, size in parts):
        raise truncated("TIFF")
    if sum(sizes) > file_bytes:
        # Each part is read and counted for itself, so a small file could ask for hours of work.
        raise undecodable("TIFF", "its strips or tiles lie over one another")
    if compression == _JPEG:
        # The scans of one part are limited by libtiff itself, the work of all of them is not.
        scans = sum(directory.encoded.count(_START_OF_SCAN, start, start + size) for start, size in parts)
        check_scans("TIFF", -(-scans // len(parts)) if parts else 0, part_pixels * len(parts))


def _without_metadata(directory: _Directory) -> bytes:
    """Return the file with a directory of picture tags alone."""
    encoded, rows, data_bytes = directory.encoded, [], 0
    for tag in sorted(directory.entries.keys() & (_SINGLE | _SEVERAL)):
        entry = directory.entries[tag]
        holder, start = directory.data(entry)
        if tag in _SINGLE and entry.n_values > 1:
            # Pillow warns of a second value; it uses the first.
            size, room = _TYPE_BYTES[entry.kind], len(entry.inline)
            if size > room:
                raise undecodable("TIFF", f"tag {tag} has the wrong type")
            entry = _Entry(entry.kind, 1, holder[start : start + size].ljust(room, b"\x00"))
        elif holder is encoded:
            data_bytes += entry.size_bytes
        rows.append(directory.row.pack(tag, *entry))
    if data_bytes > len(encoded):
        raise undecodable("TIFF", "its tags claim more bytes than the file has")
    # In the old directory's place, which it fits into: a strip that runs past the end still does.
    n_tags = struct.pack(directory.order + directory.count, len(rows))
    new = b"".join([n_tags, *rows, bytes(struct.calcsize(directory.word))])  # no next directory
    return b"".join([encoded[: directory.start], new, encoded[directory.start + len(new) :]])
