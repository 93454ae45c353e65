"""Photos encoded in every format, and files put together by hand where no encoder writes them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pillow_heif
from PIL import Image

WIDTH, HEIGHT = 96, 64

ORIENTATION_TAG = 274


@cache
def smooth_photo(width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """A gradient without symmetry: every orientation of it is another picture."""
    y, x = np.mgrid[0:height, 0:width]
    red, green = 40 + 180 * x / width, 30 + 200 * y / height
    blue = 200 - 90 * x / width - 80 * y / height
    photo = np.stack([red, green, blue], -1).astype(np.uint8)
    photo.flags.writeable = False
    return photo


def encode(image: Image.Image | np.ndarray, name: str, **options: Any) -> bytes:
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


def jpeg(image: Image.Image | np.ndarray, **options: Any) -> bytes:
    return encode(image, "JPEG", **{"quality": 97, "subsampling": 0, **options})


def heic(photo: Image.Image | np.ndarray, **options: Any) -> bytes:
    """Encode by pillow-heif, samples of 16 bits as 10; the orientation in `exif` becomes the format's own."""
    pixels = np.asarray(photo)
    channels = {2: "L", 3: "RGB", 4: "RGBA"}[pixels.ndim if pixels.ndim == 2 else pixels.shape[2]]
    mode = channels if pixels.dtype == np.uint8 else f"{channels};16"
    file = io.BytesIO()
    made = pillow_heif.from_bytes(mode, pixels.shape[1::-1], pixels.tobytes())
    made.save(file, **{"quality": 97, "chroma": 444, **options})
    return file.getvalue()


def box(kind: bytes, *parts: bytes) -> bytes:
    """One box of an ISO media file; a full one begins with four bytes of version and flags."""
    return struct.pack(">I4s", 8 + sum(map(len, parts)), kind) + b"".join(parts)


def extents(width: int, height: int) -> bytes:
    """The property that says how large an item is."""
    return box(b"ispe", bytes(4), struct.pack(">II", width, height))


def heif(
    items: Sequence[tuple[bytes, bytes, Sequence[bytes]]],
    references: Sequence[tuple[bytes, int, Sequence[int]]] = (),
    *,
    brand: bytes = b"avif",
    more: Sequence[bytes] = (),
) -> bytes:
    """Put a HEIF file together from (kind, data, properties) of items 1, 2, ..., the first being the picture.

    References are (kind, from item, to items), `more` are further boxes about items.
    """
    kinds = [
        box(b"infe", struct.pack(">IHH4sx", 2 << 24, number, 0, kind)) for number, (kind, _, _) in enumerate(items, 1)
    ]
    properties = [each for _, _, mine in items for each in mine]
    place, associations = 1, []
    for number, (_, _, mine) in enumerate(items, 1):
        associations.append(struct.pack(">HB", number, len(mine)) + bytes(range(place, place + len(mine))))
        place += len(mine)

    def file(start: int) -> bytes:
        places = []
        for number, (_, data, _) in enumerate(items, 1):
            places.append(struct.pack(">HHHII", number, 0, 1, start, len(data)))
            start += len(data)
        links = [box(kind, struct.pack(f">HH{len(to)}H", item, len(to), *to)) for kind, item, to in references]
        meta = box(
            b"meta",
            bytes(4),
            box(b"hdlr", struct.pack(">II4s13x", 0, 0, b"pict")),
            box(b"pitm", struct.pack(">IH", 0, 1)),
            box(b"iinf", struct.pack(">IH", 0, len(items)), *kinds),
            box(b"iloc", struct.pack(">IHH", 0, 0x4400, len(items)), *places),
            box(
                b"iprp",
                box(b"ipco", *properties),
                box(b"ipma", struct.pack(">II", 0, len(items)), *associations),
            ),
            box(b"iref", bytes(4), *links),
            *more,
        )
        return box(b"ftyp", brand, bytes(4), b"mif1") + meta + box(b"mdat", *(data for _, data, _ in items))

    return file(len(file(0)) - sum(len(data) for _, data, _ in items))


def av1(width: int, height: int, *, frames: int = 1) -> bytes:
    """A sequence header of the short kind for such a size, and frames of no content."""
    bits = f"00011{0:05b}{15:04b}{15:04b}{width - 1:016b}{height - 1:016b}".ljust(80, "0")
    header = int(bits, 2).to_bytes(10, "big")
    return bytes([0x0A, len(header)]) + header + b"\x32\x01\x00" * frames


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(
    width: int,
    height: int,
    rows: bytes,
    *,
    bits: int = 8,
    colour_type: int = 2,
    before: Sequence[tuple[bytes, bytes]] = (),
    after: Sequence[tuple[bytes, bytes]] = (),
) -> bytes:
    """Put a PNG together from filtered rows, with any chunks before and after the pixels."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    chunks = [(b"IHDR", header), *before, (b"IDAT", zlib.compress(rows, 6)), *after, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


def png_rows(samples: np.ndarray) -> bytes:
    """Rows of filter type 0 from an array (height, row), big-endian where it has more than a byte."""
    flat = samples.reshape(len(samples), -1)
    raw = flat.astype(flat.dtype.newbyteorder(">")).view(np.uint8)
    return np.hstack([np.zeros((len(raw), 1), np.uint8), raw]).tobytes()


def tiff(
    pixels: bytes,
    tags: Sequence[tuple[int, str, Sequence[int]]],
    *,
    order: str = "<",
    big: bool = False,
    strips: int = 1,
) -> bytes:
    """Put a TIFF together; `tags` come as (tag, B, H or I, values), without those that place the one strip.

    More strips all lie on top of each other.
    """
    place = "Q" if big else "I"
    header = struct.pack(order + "2sH", b"II" if order == "<" else b"MM", 43 if big else 42)
    header += struct.pack(order + "HH", 8, 0) if big else b""
    data = bytearray(header + struct.pack(order + place, 0))
    pixels_start = len(data)
    data += pixels
    every = sorted([*tags, (273, "I", [pixels_start] * strips), (279, "I", [len(pixels)] * strips)])
    entries = []
    for tag, kind, values in every:
        value = struct.pack(f"{order}{len(values)}{kind}", *values)
        room = struct.calcsize(place)
        if len(value) > room:
            data += b"\x00" * (len(data) % 2)
            start = len(data)
            data += value
            value = struct.pack(order + place, start)
        entry = struct.pack(order + "HH" + place, tag, {"B": 1, "H": 3, "I": 4}[kind], len(values))
        entries.append(entry + value.ljust(room, b"\x00"))
    data += b"\x00" * (len(data) % 2)
    struct.pack_into(order + place, data, len(header), len(data))
    data += struct.pack(order + ("Q" if big else "H"), len(entries)) + b"".join(entries)
    return bytes(data + struct.pack(order + place, 0))


def tiff_tags(
    width: int, height: int, bits: Sequence[int], *, photometric: int, compression: int = 1
) -> list[tuple[int, str, Sequence[int]]]:
    return [
        (256, "I", [width]),
        (257, "I", [height]),
        (258, "H", bits),
        (259, "H", [compression]),
        (262, "H", [photometric]),
        (277, "H", [len(bits)]),
        (278, "I", [height]),
    ]


def jpeg_segment(marker: int, data: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", 2 + len(data)) + data


def jpeg_segments(encoded: bytes) -> list[bytes]:
    """Split a JPEG into its markers, a scan with its data."""
    parts, position = [encoded[:2]], 2
    while encoded[position + 1] != 0xD9:
        end = position + 2 + struct.unpack_from(">H", encoded, position + 2)[0]
        if encoded[position + 1] == 0xDA:
            while encoded[end] != 0xFF or encoded[end + 1] == 0 or 0xD0 <= encoded[end + 1] <= 0xD7:
                end += 1
        parts.append(encoded[position:end])
        position = end
    return [*parts, encoded[position:]]


def with_jpeg_size(encoded: bytes, width: int, height: int) -> bytes:
    """Let a JPEG's header claim another size."""
    parts = jpeg_segments(encoded)
    frame = next(i for i, part in enumerate(parts) if part[1] in (0xC0, 0xC1, 0xC2))
    parts[frame] = parts[frame][:5] + struct.pack(">HH", height, width) + parts[frame][9:]
    return b"".join(parts)


@cache
def _large_progressive_jpeg() -> bytes:
    return jpeg(Image.new("RGB", (4100, 4100), (90, 120, 150)), progressive=True, quality=75)


def progressive_bomb(scans: int) -> bytes:
    """A progressive JPEG of 17 megapixels that repeats a full-resolution scan of next to no bytes."""
    parts = jpeg_segments(_large_progressive_jpeg())
    scan = next(part for part in reversed(parts) if part[1] == 0xDA and len(part) < 40)
    return b"".join([*parts[:-1], *[scan] * scans, parts[-1]])


def exif(orientation: int) -> bytes:
    entry = struct.pack(">HHIHH", ORIENTATION_TAG, 3, 1, orientation, 0)
    return b"Exif\x00\x00" + b"MM\x00*" + struct.pack(">IH", 8, 1) + entry + bytes(4)


def blank_png_of(width: int, height: int) -> bytes:
    """A whole black PNG of one bit a pixel, some kilobytes long however large."""
    return png(width, height, bytes((1 + (width + 7) // 8) * height), bits=1, colour_type=0)
