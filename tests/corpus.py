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
from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image

from tests.corpus_whole import CorpusImage, listed, whole_photos
from tests.encoded import (
    HEIGHT,
    WIDTH,
    av1,
    blank_png_of,
    encode,
    extents,
    heif,
    jpeg,
    jpeg_segments,
    png,
    png_chunk,
    png_rows,
    progressive_bomb,
    smooth_photo,
    tiff,
    tiff_tags,
    with_jpeg_size,
)

LOSSY_TOLERANCE = 8
"""Largest difference of a JPEG, lossy WebP, AVIF, HEIC or CMYK photo from its reference, in 0..255."""


@cache
def image_corpus() -> dict[str, CorpusImage]:
    parts: tuple[Callable[[], dict[str, CorpusImage]], ...] = (whole_photos, _no_images, _cut_off, _damaged, _bombs)
    corpus: dict[str, CorpusImage] = {}
    for part in parts:
        made = part()
        assert not corpus.keys() & made.keys()
        corpus.update(made)
    return corpus


def is_lossy(encoded: bytes) -> bool:
    return encoded.startswith(b"\xff\xd8") or b"VP8 " in encoded[:64] or encoded[4:8] == b"ftyp"


def _no_images() -> dict[str, CorpusImage]:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n"
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as members:
        members.writestr("a.jpg", b"not here")
    entities = b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;">]>'
    thumbnail = tiff_tags(16, 12, [8, 8, 8], photometric=2)
    unsupported: dict[str, bytes] = {
        "nikon.nef": tiff(bytes(576), [(254, "I", [1]), *thumbnail]),
        "pro.dng": tiff(bytes(576), [*thumbnail, (50706, "B", [1, 4, 0, 0])]),
        "canon.cr2": b"II*\x00\x10\x00\x00\x00CR\x02\x00" + tiff(bytes(576), thumbnail)[12:],
        "fuji.raf": b"FUJIFILMCCD-RAW 0201" + bytes(100),
        "jpeg_xl.jpg": b"\x00\x00\x00\x0cJXL \r\n\x87\n" + bytes(100),
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
        "raw.cr3": b"\x00\x00\x00\x18ftypcrx \x00\x00\x00\x01crx isom" + bytes(100),
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
        "magic_only.heic": b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(100),
    }
    return {
        "empty.jpg": CorpusImage(b"", "empty_file"),
        "too_large.jpg": CorpusImage(jpeg(smooth_photo()) + bytes(64 << 20), "too_large"),
        **{name: CorpusImage(data, "unsupported_format") for name, data in unsupported.items()},
        **{name: CorpusImage(data, "undecodable") for name, data in broken.items()},
    }


def _cut_off() -> dict[str, CorpusImage]:
    return {
        f"cut_to_{percent}_percent_{name}": CorpusImage(data[: len(data) * percent // 100], "truncated")
        for name, data in listed().items()
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
        "claims_65500x65500.jpg": with_jpeg_size(jpeg(smooth_photo()), 65_500, 65_500),
        "claims_16000x16000.jpg": with_jpeg_size(jpeg(smooth_photo()), 16_000, 16_000),
        "progressive_of_169_megapixels.jpg": with_jpeg_size(jpeg(smooth_photo(), progressive=True), 13_000, 13_000),
        "claims_9000x9000.png": png(9000, 9000, drawn),
        "claims_2e9x2e9.png": png(2**31 - 1, 2**31 - 1, drawn),
        "canvas_bomb.gif": small_gif[:6] + struct.pack("<HH", 65_535, 65_535) + small_gif[10:],
        "canvas_bomb.webp": bytes(webp),
        "claims_30000x30000.bmp": small_bmp[:18] + struct.pack("<ii", 30_000, 30_000) + small_bmp[26:],
        "claims_30000x30000.tif": tiff(b"\x00" * 100, wide_tags),
    }
    for name in ("picture.avif", "picture.heic"):
        honest = extents(WIDTH, HEIGHT)
        large[f"claims_9000x9000_{name}"] = listed()[name].replace(honest, extents(9000, 9000))
    large["holds_20000x20000.avif"] = heif([(b"av01", av1(20_000, 20_000), [extents(WIDTH, HEIGHT)])])
    tile = [(322, "I", [60_000]), (323, "I", [60_000])]
    small_tags = tiff_tags(16, 16, [8], photometric=1, compression=8)
    tiled = tiff(zlib.compress(bytes(256)), [*small_tags, *tile, (324, "I", [8]), (325, "I", [20])])
    tiled = tiled.replace(struct.pack("<HHI", 273, 4, 1), struct.pack("<HHI", 9273, 4, 1))
    small: dict[str, bytes] = {
        "claims_9000x9000.jpg": with_jpeg_size(jpeg(smooth_photo()), 9000, 9000),
        "claims_15000x15000.jpg": with_jpeg_size(jpeg(smooth_photo()), 15_000, 15_000),
        "claims_8000x8000.jpg": with_jpeg_size(jpeg(smooth_photo()), 8000, 8000),
        "claims_8000x8000.bmp": small_bmp[:18] + struct.pack("<ii", 8000, 8000) + small_bmp[26:],
        "claims_8000x8000.tif": tiff(b"\x00" * 100, tiff_tags(8000, 8000, [8], photometric=1)),
    }
    broken: dict[str, bytes] = {
        "claims_8000x8000.avif": listed()["picture.avif"].replace(extents(WIDTH, HEIGHT), extents(8000, 8000)),
        "claims_8000x8000.heic": listed()["picture.heic"].replace(extents(WIDTH, HEIGHT), extents(8000, 8000)),
        "six_frames_of_64_megapixels.avif": heif([(b"av01", av1(8000, 8000, frames=6), [extents(8000, 8000)])]),
        "claims_8000x8000.png": png(8000, 8000, drawn),
        "400_scans.jpg": progressive_bomb(400),
        "98_scans_of_17_megapixels.jpg": progressive_bomb(88),
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
