from __future__ import annotations

import struct
import zlib

import pytest

from ray_trash.errors import ImageError
from ray_trash.image.container import read_container
from ray_trash.image.container.layout import MAX_BLOCKS, MAX_SCANNED_PIXELS, MAX_SCANS
from tests.corpus import image_corpus
from tests.encoded import (
    HEIGHT,
    WIDTH,
    encode,
    exif,
    jpeg,
    jpeg_segment,
    png,
    png_chunk,
    png_rows,
    progressive_bomb,
    smooth_photo,
    tiff,
    tiff_tags,
)


def code_of(encoded: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        read_container(encoded)
    return caught.value.code


def test_every_photo_of_the_corpus_is_measured_as_stored():
    wrong = {}
    for name, case in image_corpus().items():
        if case.code is None and case.reference is not None:
            container = read_container(case.encoded)
            upright = (container.width_px, container.height_px)
            if container.orientation > 4:
                upright = (container.height_px, container.width_px)
            height, width = case.reference.shape[:2]
            if upright != (width, height):
                wrong[name] = upright
    assert wrong == {}


@pytest.mark.parametrize("name", ["text_bomb.png", "profile_bomb.png", "bad_exif.png", "animated.png"])
def test_pillow_is_shown_no_metadata_of_a_png(name: str):
    picture = read_container(image_corpus()[name].encoded).picture
    assert not any(kind in picture for kind in (b"zTXt", b"iCCP", b"eXIf", b"acTL", b"fdAT"))


def test_pillow_is_shown_no_metadata_of_a_jpeg():
    for name in ("bad_exif.jpg", "bad_icc.jpg", "multi_picture.jpg", "photoshop.jpg", "exif_bomb.jpg"):
        picture = read_container(image_corpus()[name].encoded).picture
        assert not any(text in picture for text in (b"Exif\x00", b"ICC_PROFILE", b"MPF\x00", b"8BIM"))


def test_pillow_is_shown_no_metadata_of_a_tiff():
    picture = read_container(image_corpus()["metadata.tif"].encoded).picture
    (start,) = struct.unpack_from("<I", picture, 4)
    (count,) = struct.unpack_from("<H", picture, start)
    tags = {struct.unpack_from("<H", picture, start + 2 + 12 * i)[0] for i in range(count)}
    assert tags == {256, 257, 258, 259, 262, 273, 277, 278, 279}


def test_a_jpeg_keeps_what_says_how_its_colours_are_meant():
    encoded = image_corpus()["cmyk.jpg"].encoded
    assert b"Adobe" in encoded
    assert b"Adobe" in read_container(encoded).picture


def test_a_jpeg_ends_at_its_end_marker():
    plain = jpeg(smooth_photo())
    assert read_container(plain + b"\xff\xda" * 500).picture == plain


def test_a_thumbnail_of_many_scans_does_not_count():
    plain = jpeg(smooth_photo())
    thumbnail = jpeg_segment(0xE1, b"Exif\x00\x00" + b"\xff\xda" * 20_000)
    assert read_container(plain[:2] + thumbnail + plain[2:]).picture == plain


def test_scans_are_refused_by_number_and_by_area():
    assert MAX_SCANS == 100
    assert code_of(progressive_bomb(92)) == "undecodable"  # with its own ten
    assert 4100 * 4100 * 91 < MAX_SCANNED_PIXELS < 4100 * 4100 * 98
    read_container(progressive_bomb(81))
    assert code_of(progressive_bomb(88)) == "undecodable"


@pytest.mark.parametrize(
    "encoded",
    [
        b"\xff\xd8" + jpeg_segment(0xE5, b"") * (MAX_BLOCKS + 1) + b"\xff\xd9",
        png(1, 1, b"\x00" * 4, before=[(b"tEXt", b"")] * (MAX_BLOCKS + 1)),
        b"GIF89a" + bytes(7) + b"!\xfe\x00" * (MAX_BLOCKS + 1),
        b"GIF89a" + bytes(7) + b"!\xfe" + b"\x01a" * (MAX_BLOCKS + 1),
        b"RIFF" + bytes(4) + b"WEBPVP8X" + struct.pack("<I", 10) + bytes(10) + b"NONE\0\0\0\0" * (MAX_BLOCKS + 1),
    ],
    ids=["jpeg", "png", "gif_blocks", "gif_parts", "webp"],
)
def test_a_file_of_too_many_blocks_is_refused(encoded: bytes):
    assert code_of(encoded) == "undecodable"


def test_an_orientation_is_read_wherever_it_is_and_never_fails():
    photo = smooth_photo()
    plain = jpeg(photo)
    assert read_container(jpeg(photo, exif=exif(6))).orientation == 6
    assert read_container(jpeg(photo, exif=exif(0))).orientation == 1
    assert read_container(jpeg(photo, exif=exif(77))).orientation == 1
    tags = tiff_tags(WIDTH, HEIGHT, [8, 8, 8], photometric=2)
    assert read_container(tiff(photo.tobytes(), [*tags, (274, "H", [300])])).orientation == 1
    whole = exif(8)
    for length in range(len(whole)):
        damaged = plain[:2] + jpeg_segment(0xE1, whole[:length]) + plain[2:]
        assert read_container(damaged).orientation in (1, 8)


def test_lossless_and_hierarchical_jpeg_are_refused():
    plain = jpeg(smooth_photo())
    for marker in (0xC3, 0xC5, 0xCB, 0xCF):
        changed = plain.replace(b"\xff\xc0", bytes([0xFF, marker]), 1)
        assert code_of(changed) == "unsupported_format"


def test_a_jpeg_of_two_frames_is_refused():
    plain = jpeg(smooth_photo())
    start = plain.index(b"\xff\xc0")
    frame = plain[start : start + 19]
    assert code_of(plain[:start] + frame + plain[start:]) == "undecodable"


def test_a_jpeg_segment_shorter_than_its_header_is_refused():
    assert code_of(b"\xff\xd8\xff\xe0\x00\x01" + bytes(40)) == "undecodable"


def test_a_bitmap_in_another_codec_is_refused():
    encoded = bytearray(encode(smooth_photo(), "BMP"))
    struct.pack_into("<I", encoded, 30, 4)  # JPEG inside BMP
    assert code_of(bytes(encoded)) == "unsupported_format"


def test_a_bitmap_of_the_first_os2_kind_is_measured():
    header = struct.pack("<IHHHH", 12, 2, 1, 1, 24)
    encoded = b"BM" + struct.pack("<IHHI", 34, 0, 0, 26) + header + bytes(8)
    assert read_container(encoded).width_px == 2
    assert code_of(encoded.replace(struct.pack("<IHH", 12, 2, 1), struct.pack("<IHH", 13, 2, 1))) == "undecodable"


def test_run_lengths_of_a_small_bitmap_are_read():
    header = struct.pack("<IiiHHIIiiII", 40, 4, 1, 1, 8, 1, 0, 0, 0, 256, 0)
    start = 54 + 1024
    encoded = b"BM" + struct.pack("<IHHI", start + 4, 0, 0, start) + header + bytes(1024) + b"\x04\x01\x00\x01"
    assert read_container(encoded).width_px == 4
    assert code_of(encoded + bytes(3 << 20)) == "undecodable"
    assert code_of(encoded[:start]) == "truncated"


def test_jpeg_scans_inside_a_tiff_are_counted():
    tags = tiff_tags(8000, 8000, [8, 8, 8], photometric=6, compression=7)
    assert code_of(tiff(b"\xff\xda" * 50, tags)) == "undecodable"
    read_container(tiff(b"\xff\xda" * 5, tags))


def test_parts_of_a_tiff_that_lie_over_one_another_are_refused_before_they_are_read():
    for compression in (5, 7, 8):
        tags = tiff_tags(8000, 8000, [8, 8, 8], photometric=2, compression=compression)
        assert code_of(tiff(bytes(1000), tags, strips=50)) == "undecodable"


def test_rare_compressions_of_a_tiff_are_refused():
    for compression in (6, 34925, 34712, 9999):
        tags = tiff_tags(8, 8, [8, 8, 8], photometric=2, compression=compression)
        assert code_of(tiff(bytes(192), tags)) == "unsupported_format"


def with_entry(encoded: bytes, tag: int, *, kind: int, count: int, value: int) -> bytes:
    """Change one tag of a little-endian TIFF."""
    (start,) = struct.unpack_from("<I", encoded, 4)
    place = encoded.index(struct.pack("<H", tag), start + 2)
    return encoded[: place + 2] + struct.pack("<HII", kind, count, value) + encoded[place + 12 :]


def test_parts_of_a_tiff_beyond_its_end_are_missing():
    encoded = tiff(zlib.compress(bytes(64)), tiff_tags(8, 8, [8], photometric=1, compression=8))
    assert code_of(with_entry(encoded, 279, kind=4, count=1, value=len(encoded))) == "truncated"


def test_tags_of_a_type_that_cannot_be_are_refused():
    encoded = tiff(bytes(64), tiff_tags(8, 8, [8], photometric=1))
    assert code_of(with_entry(encoded, 273, kind=11, count=1, value=8)) == "undecodable"
    assert code_of(with_entry(encoded, 278, kind=16, count=2, value=8)) == "undecodable"
    assert code_of(with_entry(encoded, 256, kind=2, count=1, value=8)) == "undecodable"


def test_a_big_tiff_of_countless_tags_is_refused():
    header = b"II+\x00" + struct.pack("<HHQ", 8, 0, 16)
    assert code_of(header + struct.pack("<Q", 1 << 60) + bytes(100)) == "undecodable"
    assert code_of(b"II+\x00" + struct.pack("<HHQ", 8, 0, 1 << 63) + bytes(100)) == "truncated"


def test_a_tiff_without_pixels_is_refused():
    encoded = tiff(zlib.compress(bytes(64)), tiff_tags(8, 8, [8], photometric=1, compression=8))
    gone = encoded.replace(struct.pack("<HH", 273, 4), struct.pack("<HH", 9273, 4))
    assert code_of(gone) == "undecodable"
    read_container(encoded)


def test_tags_that_claim_more_than_the_file_are_refused():
    photo = bytes(3000)
    tags = tiff_tags(10, 10, [8], photometric=1)
    claims = [(tag, "B", [0] * 900) for tag in (320, 338, 339, 347)]
    encoded = bytearray(tiff(photo, [*tags, *claims]))
    read_container(bytes(encoded))
    (start,) = struct.unpack_from("<I", encoded, 4)
    (count,) = struct.unpack_from("<H", encoded, start)
    for i in range(count):
        place = start + 2 + 12 * i
        if struct.unpack_from("<H", encoded, place)[0] in (320, 338, 339, 347):
            struct.pack_into("<II", encoded, place + 4, 3000, 8)
    assert code_of(bytes(encoded)) == "undecodable"


def test_a_webp_of_no_known_picture_is_refused():
    body = b"WEBPVP8?" + struct.pack("<I", 20) + bytes(20)
    assert code_of(b"RIFF" + struct.pack("<I", len(body)) + body) == "undecodable"
    for kind in (b"VP8 ", b"VP8L"):
        changed = body.replace(b"VP8?", kind)
        assert code_of(b"RIFF" + struct.pack("<I", len(changed)) + changed) == "undecodable"


def test_a_gif_cut_before_its_first_frame_is_truncated():
    start = b"GIF89a\x01\x00\x01\x00\x00\x00\x00"
    assert code_of(start + b"!\xfe\x20a comment") == "truncated"
    assert code_of(start + b"!\xfe\x05hello\x00") == "truncated"


def test_a_gif_without_a_frame_is_refused():
    assert code_of(b"GIF89a\x01\x00\x01\x00\x00\x00\x00" + bytes(10) + b";") == "undecodable"


def test_a_gif_grows_with_its_first_frame():
    frame = b"," + struct.pack("<HHHH", 10, 20, 30, 40) + b"\x00\x02\x00;"
    container = read_container(b"GIF89a\x01\x00\x01\x00\x00\x00\x00" + frame)
    assert (container.width_px, container.height_px) == (40, 60)


def test_a_png_chunk_that_reaches_beyond_the_end_is_no_picture():
    rows = png_rows(smooth_photo())
    encoded = png(WIDTH, HEIGHT, rows)
    shortened = encoded[: encoded.index(b"IDAT") + 40]
    assert read_container(shortened).ends_early
    assert not read_container(encoded).ends_early
    assert code_of(encoded[:8] + png_chunk(b"IHDR", bytes(13)) + bytes(20)) == "undecodable"
