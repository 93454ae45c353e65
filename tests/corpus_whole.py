"""Whole photos of every format and flavour: name -> (bytes, code or None, what it must look like)."""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pillow_heif
from PIL import Image

from ray_trash.errors import ReasonCode
from tests.encoded import (
    HEIGHT,
    ORIENTATION_TAG,
    WIDTH,
    blank_png_of,
    encode,
    exif,
    heic,
    jpeg,
    jpeg_segment,
    png,
    png_rows,
    smooth_photo,
    tiff,
    tiff_tags,
)


class CorpusImage(NamedTuple):
    encoded: bytes
    code: ReasonCode | None = None
    reference: np.ndarray | None = None


@cache
def whole_photos() -> dict[str, CorpusImage]:
    parts = (_formats, _orientations, _modes, _sixteen_bits, _metadata, _animations, _odd_shapes)
    return {name: image for part in parts for name, image in part().items()}


@cache
def listed() -> dict[str, bytes]:
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
        "picture.avif": encode(photo, "AVIF", quality=97, subsampling="4:4:4"),
        "picture.heic": heic(photo),
    }


def _formats() -> dict[str, CorpusImage]:
    photo = smooth_photo()
    files = listed()
    run_length = encode(photo, "TIFF", compression="packbits")
    rgb = tiff_tags(WIDTH, HEIGHT, [8, 8, 8], photometric=2)
    swapped = {
        "png_named.jpg": files["png.png"],
        "jpeg_named.png": files["jpeg.jpg"],
        "UPPER.JPG": files["jpeg.jpg"],
        "name.jfif": files["jpeg.jpg"],
        "no_extension": files["lossless.webp"],
        "packbits.tif": run_length,
        "big_endian.tif": tiff(photo.tobytes(), rgb, order=">"),
        "big_tiff.tif": tiff(photo.tobytes(), rgb, big=True),
        "top_down.bmp": _top_down_bmp(photo),
        "tiles.tif": _tiled_tiff(photo),
        "tiles.heic": heic(photo, tile_size=64),
        "ten_bits.heic": heic(photo.astype(np.uint16) * 257),
    }
    whole = {
        name: data for name, data in files.items() if name not in ("noisy.png", "interlaced_palette.gif", "jpeg.tif")
    }
    cropped = photo[:63, :95]
    odd = {
        "odd_size.avif": encode(cropped, "AVIF", quality=97, subsampling="4:4:4"),
        "odd_size.heic": heic(cropped),
    }
    return {
        **{name: CorpusImage(data, None, photo) for name, data in (whole | swapped).items()},
        **{name: CorpusImage(data, None, cropped) for name, data in odd.items()},
    }


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
            "avif": encode(image, "AVIF", quality=97, subsampling="4:4:4", exif=tag),
            "heic": heic(image, exif=tag),
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
        "rgba.avif": (encode(rgba, "AVIF", quality=100, subsampling="4:4:4"), over_white),
        "rgba.heic": (heic(rgba, quality=-1), over_white),
        "grey.avif": (encode(grey, "AVIF", quality=97), grey_rgb),
        "grey.heic": (heic(grey), grey_rgb),
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
        "animated.avif": CorpusImage(encode(first, "AVIF", quality=97, subsampling="4:4:4", **many), None, photo),
        "burst.heic": CorpusImage(_burst(first, second), None, photo),
        "5000_frames.gif": CorpusImage(_gif_of_frames(palette, 5000), None, flat),
        "cut_in_second_frame.gif": CorpusImage(_gif_of_frames(palette, 3)[:-200], None, flat),
    }


def _burst(first: Image.Image, second: Image.Image) -> bytes:
    """Several pictures, of which the first is the one to show."""
    file = io.BytesIO()
    burst = pillow_heif.from_pillow(first)
    burst.add_from_pillow(second)
    burst.save(file, quality=97, chroma=444, primary_index=0)
    return file.getvalue()


def _gif_of_frames(image: Image.Image, frames: int) -> bytes:
    single = encode(image, "GIF")
    start = 13 + (3 << ((single[10] & 7) + 1))
    header, frame = single[:start], single[start:-1]
    return header + frame * frames + b";"


def _odd_shapes() -> dict[str, CorpusImage]:
    return {
        "1x1.png": CorpusImage(encode(smooth_photo(1, 1), "PNG"), None, smooth_photo(1, 1)),
        "4000x1.png": CorpusImage(encode(smooth_photo(4000, 1), "PNG"), None, smooth_photo(4000, 1)),
        "60000x2.png": CorpusImage(encode(smooth_photo(60_000, 2), "PNG")),
        "2x60000.jpg": CorpusImage(jpeg(smooth_photo(2, 60_000))),
        "79_megapixels.png": CorpusImage(blank_png_of(8900, 8900)),
    }
