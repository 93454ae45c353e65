"""Every kind of bad and odd image, made in code: name -> (bytes, expected code or None, reference or None).

A code of None means that the file is a photo; its reference, where there is one, is what it must look like. Lossy
files come within `LOSSY_TOLERANCE`, all others exactly.
"""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ray_trash.errors import ReasonCode

LOSSY_TOLERANCE = 8
"""Largest difference of a JPEG, lossy WebP or CMYK photo from its reference, in 0..255."""

WIDTH, HEIGHT = 96, 64

ORIENTATION_TAG = 274


class CorpusImage(NamedTuple):
    encoded: bytes
    code: ReasonCode | None = None
    reference: np.ndarray | None = None


@cache
def image_corpus() -> dict[str, CorpusImage]:
    parts: tuple[Callable[[], dict[str, CorpusImage]], ...] = (
        _no_images,
        _cut_off,
        _damaged,
        _formats,
        _orientations,
        _modes,
        _sixteen_bits,
        _metadata,
        _animations,
        _bombs,
        _odd_shapes,
    )
    corpus: dict[str, CorpusImage] = {}
    for part in parts:
        made = part()
        assert not corpus.keys() & made.keys()
        corpus.update(made)
    return corpus


def is_lossy(encoded: bytes) -> bool:
    return encoded.startswith(b"\xff\xd8") or b"VP8 " in encoded[:64]


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
    return jpeg(Image.new("RGB", (3300, 3300), (90, 120, 150)), progressive=True, quality=75)


def progressive_bomb(scans: int) -> bytes:
    """A progressive JPEG of 11 megapixels that repeats a full-resolution scan of next to no bytes."""
    parts = jpeg_segments(_large_progressive_jpeg())
    scan = next(part for part in reversed(parts) if part[1] == 0xDA and len(part) < 40)
    return b"".join([*parts[:-1], *[scan] * scans, parts[-1]])


def exif(orientation: int) -> bytes:
    entry = struct.pack(">HHIHH", ORIENTATION_TAG, 3, 1, orientation, 0)
    return b"Exif\x00\x00" + b"MM\x00*" + struct.pack(">IH", 8, 1) + entry + bytes(4)


def blank_png_of(width: int, height: int) -> bytes:
    """A whole black PNG of one bit a pixel, some kilobytes long however large."""
    return png(width, height, bytes((1 + (width + 7) // 8) * height), bits=1, colour_type=0)


def _no_images() -> dict[str, CorpusImage]:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as members:
        members.writestr("a.jpg", b"not here")
    entities = b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;">]>'
    unsupported: dict[str, bytes] = {
        "html.jpg": b"<!DOCTYPE html><html><body>404</body></html>",
        "json.jpg": json.dumps({"error": "not found", "status": 404}).encode(),
        "text.jpg": b"this is no photo at all\n",
        "short_text.jpg": b"nope",
        "lfs_pointer.jpg": pointer,
        "zip.jpg": archive.getvalue(),
        "elf.jpg": b"\x7fELF\x02\x01\x01" + bytes(200),
        "pickle.jpg": pickle.dumps({"a": list(range(50))}, protocol=4),
        "noise.jpg": np.random.default_rng(5).bytes(4000),
        "eps.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n",
        "dos_eps.jpg": b"\xc5\xd0\xd3\xc6" + bytes(100),
        "svg.png": b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="5" height="5"/></svg>',
        "svg_xxe.png": entities + b"<svg>&b;</svg>",
        "pdf.jpg": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n%%EOF\n",
        "heic.jpg": b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(100),
        "mp4.jpg": b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00isommp42" + bytes(100),
        "ppm.jpg": b"P6 2 2 255\n" + bytes(12),
        "icon.png": encode(smooth_photo(32, 32), "ICO"),
        "jpeg2000.jpg": encode(smooth_photo(), "JPEG2000"),
    }
    broken: dict[str, bytes] = {
        "one_byte.jpg": b"\xff",
        "three_bytes.png": b"\x89PN",
        "zeros.jpg": bytes(5000),
        "magic_only.jpg": b"\xff\xd8\xff",
        "magic_and_marker.jpg": b"\xff\xd8\xff\xe0",
        "magic_only.png": b"\x89PNG\r\n\x1a\n",
        "magic_only.gif": b"GIF89a",
        "magic_only.webp": b"RIFF\x00\x01\x00\x00WEBP",
        "magic_only.bmp": b"BM\x36\x00",
        "magic_only.tif": b"II*\x00",
    }
    return {
        "empty.jpg": CorpusImage(b"", "empty_file"),
        "too_large.jpg": CorpusImage(jpeg(smooth_photo()) + bytes(64 << 20), "too_large"),
        **{name: CorpusImage(data, "unsupported_format") for name, data in unsupported.items()},
        **{name: CorpusImage(data, "undecodable") for name, data in broken.items()},
    }


def _listed() -> dict[str, bytes]:
    photo = smooth_photo()
    noisy = np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return {
        "jpeg.jpg": jpeg(photo),
        "progressive.jpg": jpeg(photo, progressive=True),
        "large_exif.jpg": jpeg(photo, exif=exif(1) + bytes(60_000)),
        "png.png": encode(photo, "PNG"),
        "noisy.png": encode(noisy, "PNG"),
        "interlaced_palette.gif": encode(Image.fromarray(photo).quantize(64), "GIF"),
        "lossy.webp": encode(photo, "WEBP", quality=95),
        "lossless.webp": encode(photo, "WEBP", lossless=True),
        "raw.bmp": encode(photo, "BMP"),
        "raw.tif": encode(photo, "TIFF"),
        "lzw.tif": encode(photo, "TIFF", compression="tiff_lzw"),
        "deflate.tif": encode(photo, "TIFF", compression="tiff_adobe_deflate"),
        "jpeg.tif": encode(photo, "TIFF", compression="jpeg", quality=95),
    }


def _cut_off() -> dict[str, CorpusImage]:
    return {
        f"cut_to_{percent}_percent_{name}": CorpusImage(data[: len(data) * percent // 100], "truncated")
        for name, data in _listed().items()
        for percent in (10, 50, 90)
        if len(data) * percent // 100 >= 20
    }


def _damaged() -> dict[str, CorpusImage]:
    photo = smooth_photo()
    plain, drawn = jpeg(photo), encode(photo, "PNG")
    without_tables = b"".join(part for part in jpeg_segments(jpeg(photo)) if part[1] != 0xC4)
    ends_in_the_middle = plain[: len(plain) * 6 // 10] + b"\xff\xd9"
    flipped = bytearray(drawn)
    flipped[drawn.index(b"IDAT") + 30] ^= 0x55
    no_frame = b"".join(part for part in jpeg_segments(plain) if part[1] not in (0xC0, 0xDA))
    deep = bytearray(plain)
    frame = plain.index(b"\xff\xc0")
    deep[frame + 4] = 12
    return {
        "no_end_marker.jpg": CorpusImage(plain[:-2], "truncated"),
        "no_end_chunk.png": CorpusImage(drawn[:-12], None, photo),
        "no_trailer.gif": CorpusImage(encode(Image.fromarray(photo).quantize(64), "GIF")[:-1]),
        "no_huffman_tables.jpg": CorpusImage(without_tables),
        "early_end_marker.jpg": CorpusImage(ends_in_the_middle),
        "flipped_bits.png": CorpusImage(bytes(flipped), "undecodable"),
        "no_frame.jpg": CorpusImage(no_frame, "undecodable"),
        "no_header.png": CorpusImage(drawn[:8] + png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b""), "undecodable"),
        "no_size.png": CorpusImage(png(0, 5, b"\x00"), "undecodable"),
        "twelve_bits.jpg": CorpusImage(bytes(deep), "unsupported_format"),
        "trailing_bytes.jpg": CorpusImage(plain + b"<?php evil ?>" * 50, None, photo),
        "trailing_bytes.png": CorpusImage(drawn + bytes(500), None, photo),
    }


def _formats() -> dict[str, CorpusImage]:
    photo = smooth_photo()
    listed = _listed()
    run_length = encode(photo, "TIFF", compression="packbits")
    rgb = tiff_tags(WIDTH, HEIGHT, [8, 8, 8], photometric=2)
    swapped = {
        "png_named.jpg": listed["png.png"],
        "jpeg_named.png": listed["jpeg.jpg"],
        "UPPER.JPG": listed["jpeg.jpg"],
        "name.jfif": listed["jpeg.jpg"],
        "no_extension": listed["lossless.webp"],
        "packbits.tif": run_length,
        "big_endian.tif": tiff(photo.tobytes(), rgb, order=">"),
        "big_tiff.tif": tiff(photo.tobytes(), rgb, big=True),
        "top_down.bmp": _top_down_bmp(photo),
        "tiles.tif": _tiled_tiff(photo),
    }
    whole = {
        name: data for name, data in listed.items() if name not in ("noisy.png", "interlaced_palette.gif", "jpeg.tif")
    }
    return {name: CorpusImage(data, None, photo) for name, data in (whole | swapped).items()}


def _tiled_tiff(photo: np.ndarray) -> bytes:
    """One tile of 128x64 pixels, compressed, wider than the photo."""
    tile = np.zeros((64, 128, 3), np.uint8)
    tile[: photo.shape[0], : photo.shape[1]] = photo
    tags = tiff_tags(WIDTH, HEIGHT, [8, 8, 8], photometric=2, compression=8)[:-1]
    encoded = tiff(zlib.compress(tile.tobytes()), [*tags, (322, "I", [128]), (323, "I", [64])])
    for strip_tag, tile_tag in ((273, 324), (279, 325)):
        encoded = encoded.replace(struct.pack("<HHI", strip_tag, 4, 1), struct.pack("<HHI", tile_tag, 4, 1))
    return encoded


def _top_down_bmp(photo: np.ndarray) -> bytes:
    height, width = photo.shape[:2]
    header = struct.pack("<IiiHHIIiiII", 40, width, -height, 1, 24, 0, 0, 0, 0, 0, 0)
    pixels = photo[..., ::-1].tobytes()
    return b"BM" + struct.pack("<IHHI", 54 + len(pixels), 0, 0, 54) + header + pixels


def _orientations() -> dict[str, CorpusImage]:
    upright = Image.fromarray(smooth_photo())
    # How a photo is stored so that the given orientation turns it upright.
    stored = {
        1: upright,
        2: upright.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: upright.transpose(Image.Transpose.ROTATE_180),
        4: upright.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: upright.transpose(Image.Transpose.TRANSPOSE),
        6: upright.transpose(Image.Transpose.ROTATE_90),
        7: upright.transpose(Image.Transpose.TRANSVERSE),
        8: upright.transpose(Image.Transpose.ROTATE_270),
    }
    corpus: dict[str, CorpusImage] = {}
    for orientation, image in stored.items():
        tag, tiff_pixels = exif(orientation), np.asarray(image)
        tags = tiff_tags(image.width, image.height, [8, 8, 8], photometric=2)
        files = {
            "jpg": jpeg(image, exif=tag),
            "png": encode(image, "PNG", exif=tag),
            "webp": encode(image, "WEBP", lossless=True, exif=tag),
            "tif": tiff(tiff_pixels.tobytes(), [*tags, (ORIENTATION_TAG, "H", [orientation])]),
        }
        for ending, data in files.items():
            corpus[f"orientation_{orientation}.{ending}"] = CorpusImage(data, None, smooth_photo())
    return corpus


def _modes() -> dict[str, CorpusImage]:
    photo = smooth_photo()
    image = Image.fromarray(photo)
    grey = image.convert("L")
    grey_rgb = np.asarray(grey.convert("RGB"))
    palette = image.quantize(64)
    two_tone = Image.fromarray(np.where(photo[..., 0] > 120, 255, 0).astype(np.uint8))
    hole = np.zeros((HEIGHT, WIDTH), bool)
    hole[10:30, 20:70] = True
    punched, over_white = photo.copy(), photo.copy()
    punched[hole], over_white[hole] = (255, 0, 255), 255  # magenta is what must not leak
    alpha = np.where(hole, 0, 255).astype(np.uint8)
    rgba = Image.fromarray(np.dstack([punched, alpha]))
    grey_punched = np.where(hole, 9, np.asarray(grey)).astype(np.uint8)
    grey_over_white = np.where(hole[..., None], 255, grey_rgb).astype(np.uint8)
    la = Image.merge("LA", [Image.fromarray(grey_punched), Image.fromarray(alpha)])
    half = np.full((HEIGHT, WIDTH), 128, np.uint8)
    half_rgba = np.dstack([np.zeros_like(photo), half])
    half_over_white = np.full_like(photo, 127)
    index = np.where(hole, 255, np.asarray(palette)).astype(np.uint8)
    keyed = Image.fromarray(index).convert("P")
    keyed.putpalette((palette.getpalette() or [])[:192] + [255, 0, 255] * 192)
    keyed_reference = np.where(hole[..., None], 255, np.asarray(palette.convert("RGB"))).astype(np.uint8)
    soft = bytes([255] * 255 + [0])
    quarter = np.asarray(grey) // 64  # two bits
    quarter[0, :] = 2
    packed = quarter[:, ::4] << 6 | quarter[:, 1::4] << 4 | quarter[:, 2::4] << 2 | quarter[:, 3::4]
    quarter_grey = np.repeat((quarter * 85)[..., None], 3, axis=-1)
    quarter_key = np.where(quarter[..., None] == 2, 255, quarter_grey)
    cmyk = image.convert("CMYK")
    premultiplied = np.asarray(rgba.convert("RGBa")).reshape(HEIGHT, WIDTH, 4)
    as_rgba = tiff_tags(WIDTH, HEIGHT, [8, 8, 8, 8], photometric=2)
    found = {
        "grey.jpg": (jpeg(grey), grey_rgb),
        "grey.png": (encode(grey, "PNG"), grey_rgb),
        "one_bit.png": (encode(two_tone.convert("1"), "PNG"), np.asarray(two_tone.convert("RGB"))),
        "one_bit.tif": (
            encode(two_tone.convert("1"), "TIFF", compression="group4"),
            np.asarray(two_tone.convert("RGB")),
        ),
        "one_bit.bmp": (encode(two_tone.convert("1"), "BMP"), np.asarray(two_tone.convert("RGB"))),
        "two_bits.png": (png(WIDTH, HEIGHT, png_rows(packed), bits=2, colour_type=0), quarter_grey),
        "two_bits_key.png": (
            png(WIDTH, HEIGHT, png_rows(packed), bits=2, colour_type=0, before=[(b"tRNS", b"\x00\x02")]),
            quarter_key,
        ),
        "cmyk.jpg": (jpeg(cmyk), np.asarray(cmyk.convert("RGB"))),
        "cmyk.tif": (encode(cmyk, "TIFF"), np.asarray(cmyk.convert("RGB"))),
        "lab.tif": (encode(image.convert("LAB"), "TIFF"), None),
        "ycbcr.tif": (encode(image.convert("YCbCr"), "TIFF"), np.asarray(image.convert("YCbCr").convert("RGB"))),
        "white_is_zero.tif": (
            tiff((255 - np.asarray(grey)).tobytes(), tiff_tags(WIDTH, HEIGHT, [8], photometric=0)),
            grey_rgb,
        ),
        "palette.png": (encode(palette, "PNG"), np.asarray(palette.convert("RGB"))),
        "palette.gif": (encode(palette, "GIF"), np.asarray(palette.convert("RGB"))),
        "palette.bmp": (encode(palette, "BMP"), np.asarray(palette.convert("RGB"))),
        "palette.tif": (encode(palette, "TIFF"), np.asarray(palette.convert("RGB"))),
        "palette_key.png": (encode(keyed, "PNG", transparency=255), keyed_reference),
        "palette_alphas.png": (encode(keyed, "PNG", transparency=soft), keyed_reference),
        "palette_key.gif": (encode(keyed, "GIF", transparency=255), keyed_reference),
        "rgba.png": (encode(rgba, "PNG"), over_white),
        "rgba.webp": (encode(rgba, "WEBP", lossless=True, exact=True), over_white),
        "rgba.tif": (encode(rgba, "TIFF"), over_white),
        "premultiplied.tif": (tiff(premultiplied.tobytes(), [*as_rgba, (338, "H", [1])]), over_white),
        "premultiplied_grey.tif": (
            tiff(
                np.asarray(la.convert("La")).tobytes(),
                [*tiff_tags(WIDTH, HEIGHT, [8, 8], photometric=1), (338, "H", [1])],
            ),
            grey_over_white,
        ),
        "half.png": (encode(half_rgba, "PNG"), half_over_white),
        "la.png": (encode(la, "PNG"), grey_over_white),
        "rgb_key.png": (
            png(
                WIDTH,
                HEIGHT,
                png_rows(punched),
                before=[(b"tRNS", struct.pack(">HHH", 255, 0, 255))],
            ),
            over_white,
        ),
        "grey_key.png": (
            png(WIDTH, HEIGHT, png_rows(grey_punched), colour_type=0, before=[(b"tRNS", b"\x00\x09")]),
            grey_over_white,
        ),
    }
    return {name: CorpusImage(data, None, reference) for name, (data, reference) in found.items()}


def _sixteen_bits() -> dict[str, CorpusImage]:
    photo = smooth_photo()
    grey = np.asarray(Image.fromarray(photo).convert("L"))
    grey_rgb = np.repeat(grey[..., None], 3, axis=-1)
    holed = np.where(grey == grey.max(), 255, grey)
    key = struct.pack(">H", int(grey.max()) * 257)
    wide, wide_grey = photo.astype(np.uint16) * 257, grey.astype(np.uint16) * 257
    rgb_tags = tiff_tags(WIDTH, HEIGHT, [16] * 3, photometric=2)
    grey_tags = tiff_tags(WIDTH, HEIGHT, [16], photometric=1)
    corner = struct.pack(">HHH", *(int(value) for value in wide[0, 0]))
    cornered = np.where((photo == photo[0, 0]).all(-1)[..., None], 255, photo)
    twelve = grey.astype(np.uint16) << 4
    pairs = twelve.reshape(-1, 2)
    packed = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], -1)
    found = {
        "rgb16.png": (png(WIDTH, HEIGHT, png_rows(wide), bits=16), photo),
        "rgb16_shifted.png": (png(WIDTH, HEIGHT, png_rows(photo.astype(np.uint16) << 8), bits=16), photo),
        "grey16.png": (png(WIDTH, HEIGHT, png_rows(wide_grey), bits=16, colour_type=0), grey_rgb),
        "grey16_shifted.png": (
            png(WIDTH, HEIGHT, png_rows(grey.astype(np.uint16) << 8), bits=16, colour_type=0),
            grey_rgb,
        ),
        "grey16_key.png": (
            png(WIDTH, HEIGHT, png_rows(wide_grey), bits=16, colour_type=0, before=[(b"tRNS", key)]),
            np.repeat(holed[..., None], 3, axis=-1),
        ),
        "rgb16_key.png": (
            png(WIDTH, HEIGHT, png_rows(wide), bits=16, before=[(b"tRNS", corner)]),
            cornered,
        ),
        "rgba16.png": (
            png(
                WIDTH,
                HEIGHT,
                png_rows(np.dstack([wide, np.full((HEIGHT, WIDTH), 65535, np.uint16)])),
                bits=16,
                colour_type=6,
            ),
            photo,
        ),
        "grey16.tif": (tiff(wide_grey.tobytes(), grey_tags), grey_rgb),
        "grey16_big_endian.tif": (
            tiff(wide_grey.astype(">u2").tobytes(), grey_tags, order=">"),
            grey_rgb,
        ),
        "grey16_deflate.tif": (
            encode(Image.fromarray(wide_grey), "TIFF", compression="tiff_adobe_deflate"),
            grey_rgb,
        ),
        "grey16_white_is_zero.tif": (
            tiff(
                (65535 - wide_grey).tobytes(),
                tiff_tags(WIDTH, HEIGHT, [16], photometric=0),
            ),
            grey_rgb,
        ),
        "grey12.tif": (
            tiff(packed.astype(np.uint8).tobytes(), tiff_tags(WIDTH, HEIGHT, [12], photometric=1)),
            grey_rgb,
        ),
        "rgb16.tif": (tiff(wide.tobytes(), rgb_tags), photo),
    }
    refused = {
        "int32.tif": encode(Image.fromarray(grey.astype(np.int32)), "TIFF"),
        "float32.tif": encode(Image.fromarray(grey.astype(np.float32)), "TIFF"),
        "signed16.tif": tiff(wide_grey.tobytes(), [*grey_tags, (339, "H", [2])]),
        "seven_samples.tif": tiff(bytes(WIDTH * HEIGHT * 7), tiff_tags(WIDTH, HEIGHT, [8] * 7, photometric=2)),
        "nine_bits.tif": tiff(wide_grey.tobytes(), tiff_tags(WIDTH, HEIGHT, [9], photometric=1)),
    }
    return {
        **{name: CorpusImage(data, None, reference) for name, (data, reference) in found.items()},
        **{name: CorpusImage(data, "unsupported_format") for name, data in refused.items()},
    }


def _metadata() -> dict[str, CorpusImage]:
    photo = smooth_photo()
    plain = jpeg(photo)
    start, rest = plain[:2], plain[2:]

    def with_segment(marker: int, data: bytes) -> bytes:
        return start + jpeg_segment(marker, data) + rest

    rows = png_rows(photo)
    # A thousand and more to one: one deflated megabyte of zeros, again and again.
    squeezer = zlib.compressobj(9)
    megabyte = squeezer.compress(bytes(1 << 20)) + squeezer.flush(zlib.Z_FULL_FLUSH)
    zeros = megabyte + megabyte[2:] * 79
    text_bomb, profile_bomb = b"Comment\x00\x00" + zeros, b"icc\x00\x00" + zeros
    overlapping = b"II*\x00" + struct.pack("<IH", 8, 4000)
    overlapping += b"".join(struct.pack("<HHII", 1000 + i, 1, 40_000, 0) for i in range(4000))
    rgb = tiff_tags(WIDTH, HEIGHT, [8, 8, 8], photometric=2)
    good = {
        "bad_exif.jpg": with_segment(0xE1, b"Exif\x00\x00MM\x00*\xff\xff\xff\xff" + bytes(20)),
        "short_exif.jpg": with_segment(0xE1, b"Exif\x00\x00II*\x00\x08\x00"),
        "no_such_orientation.jpg": with_segment(0xE1, exif(77)),
        "exif_bomb.jpg": with_segment(0xE1, b"Exif\x00\x00" + overlapping),
        "bad_icc.jpg": with_segment(0xE2, b"ICC_PROFILE\x00\x01\x01" + b"\xff" * 300),
        "bad_multi_picture.jpg": with_segment(0xE2, b"MPF\x00MM\x00*\x00\x00\x00\x08\xff\xff" + bytes(30)),
        "multi_picture.jpg": encode(
            Image.fromarray(photo),
            "MPO",
            save_all=True,
            append_images=[Image.new("RGB", (WIDTH, HEIGHT))],
            quality=97,
            subsampling=0,
        ),
        "photoshop.jpg": with_segment(0xED, b"Photoshop 3.0\x008BIM\x04\x04" + b"\xff" * 20),
        "bad_exif.png": png(WIDTH, HEIGHT, rows, before=[(b"eXIf", b"MM\x00*" + b"\xff" * 30)]),
        "text_bomb.png": png(WIDTH, HEIGHT, rows, before=[(b"zTXt", text_bomb)]),
        "late_text_bomb.png": png(WIDTH, HEIGHT, rows, after=[(b"zTXt", text_bomb)]),
        "profile_bomb.png": png(WIDTH, HEIGHT, rows, before=[(b"iCCP", profile_bomb)]),
        "bad_profile.png": png(WIDTH, HEIGHT, rows, before=[(b"iCCP", b"icc\x00\x00\xff\xff")]),
        "metadata.tif": tiff(photo.tobytes(), [*rgb, (270, "B", [65] * 50), (700, "B", [1] * 99)]),
        "two_widths.tif": tiff(photo.tobytes(), [*rgb[1:], (256, "I", [WIDTH, 7, 9])]),
    }
    return {name: CorpusImage(data, None, photo) for name, data in good.items()}


def _animations() -> dict[str, CorpusImage]:
    photo = smooth_photo()
    first, second = Image.fromarray(photo), Image.new("RGB", (WIDTH, HEIGHT), "red")
    palette = first.quantize(64)
    flat = np.asarray(palette.convert("RGB"))
    many: dict[str, Any] = {"save_all": True, "append_images": [second] * 3}
    return {
        "animated.gif": CorpusImage(encode(palette, "GIF", save_all=True, append_images=[second]), None, flat),
        "animated.png": CorpusImage(encode(first, "PNG", **many), None, photo),
        "animated.webp": CorpusImage(encode(first, "WEBP", lossless=True, **many), None, photo),
        "pages.tif": CorpusImage(encode(first, "TIFF", **many), None, photo),
        "5000_frames.gif": CorpusImage(_gif_of_frames(palette, 5000), None, flat),
        "cut_in_second_frame.gif": CorpusImage(_gif_of_frames(palette, 3)[:-200], None, flat),
    }


def _gif_of_frames(image: Image.Image, frames: int) -> bytes:
    single = encode(image, "GIF")
    start = 13 + (3 << ((single[10] & 7) + 1))
    header, frame = single[:start], single[start:-1]
    return header + frame * frames + b";"


def _bombs() -> dict[str, CorpusImage]:
    drawn = png_rows(smooth_photo())
    small_gif = encode(Image.fromarray(smooth_photo()).quantize(64), "GIF")
    small_bmp = encode(smooth_photo(), "BMP")
    webp = bytearray(encode(smooth_photo(), "WEBP", lossless=True))
    struct.pack_into("<I", webp, 21, 16382 | 16382 << 14)
    wide_tags = tiff_tags(30_000, 30_000, [1], photometric=1)
    large: dict[str, bytes] = {
        "88_megapixels.png": blank_png_of(9400, 9400),
        "144_megapixels.png": blank_png_of(12_000, 12_000),
        "400_megapixels.png": blank_png_of(20_000, 20_000),
        "claims_9000x9000.jpg": with_jpeg_size(jpeg(smooth_photo()), 9000, 9000),
        "claims_65500x65500.jpg": with_jpeg_size(jpeg(smooth_photo()), 65_500, 65_500),
        "claims_9000x9000.png": png(9000, 9000, drawn),
        "claims_2e9x2e9.png": png(2**31 - 1, 2**31 - 1, drawn),
        "canvas_bomb.gif": small_gif[:6] + struct.pack("<HH", 65_535, 65_535) + small_gif[10:],
        "canvas_bomb.webp": bytes(webp),
        "claims_30000x30000.bmp": small_bmp[:18] + struct.pack("<ii", 30_000, 30_000) + small_bmp[26:],
        "claims_30000x30000.tif": tiff(b"\x00" * 100, wide_tags),
    }
    tile = [(322, "I", [60_000]), (323, "I", [60_000])]
    small_tags = tiff_tags(16, 16, [8], photometric=1, compression=8)
    tiled = tiff(zlib.compress(bytes(256)), [*small_tags, *tile, (324, "I", [8]), (325, "I", [20])])
    tiled = tiled.replace(struct.pack("<HHI", 273, 4, 1), struct.pack("<HHI", 9273, 4, 1))
    small: dict[str, bytes] = {
        "claims_8000x8000.jpg": with_jpeg_size(jpeg(smooth_photo()), 8000, 8000),
        "claims_8000x8000.bmp": small_bmp[:18] + struct.pack("<ii", 8000, 8000) + small_bmp[26:],
        "claims_8000x8000.tif": tiff(b"\x00" * 100, tiff_tags(8000, 8000, [8], photometric=1)),
    }
    broken: dict[str, bytes] = {
        "claims_8000x8000.png": png(8000, 8000, drawn),
        "400_scans.jpg": progressive_bomb(400),
        "98_scans_of_11_megapixels.jpg": progressive_bomb(88),
        "run_length_bomb.bmp": small_bmp[:14]
        + struct.pack("<IiiHHIIiiII", 40, 8000, 8000, 1, 8, 1, 0, 0, 0, 0, 0)
        + bytes(1024)
        + b"\x00\x00" * 1000,
        "strip_bomb.tif": tiff(bytes(100), tiff_tags(64, 64, [8], photometric=1), strips=100_001),
    }
    return {
        **{name: CorpusImage(data, "too_many_pixels") for name, data in large.items()},
        "tile_bomb.tif": CorpusImage(tiled, "too_many_pixels"),
        **{name: CorpusImage(data, "truncated") for name, data in small.items()},
        **{name: CorpusImage(data, "undecodable") for name, data in broken.items()},
    }


def _odd_shapes() -> dict[str, CorpusImage]:
    return {
        "1x1.png": CorpusImage(encode(smooth_photo(1, 1), "PNG"), None, smooth_photo(1, 1)),
        "4000x1.png": CorpusImage(encode(smooth_photo(4000, 1), "PNG"), None, smooth_photo(4000, 1)),
        "60000x2.png": CorpusImage(encode(smooth_photo(60_000, 2), "PNG")),
        "2x60000.jpg": CorpusImage(jpeg(smooth_photo(2, 60_000))),
        "79_megapixels.png": CorpusImage(blank_png_of(8900, 8900)),
    }
