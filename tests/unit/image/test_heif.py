"""AVIF and HEIC are measured before a decoder sees them, whatever their boxes claim."""

from __future__ import annotations

import re
import struct
import sys

import numpy as np
import pytest
from PIL import Image

from ray_trash.errors import ImageError
from ray_trash.image.container import read_container
from ray_trash.image.container.coded import read_av1, read_hevc
from ray_trash.image.container.layout import MAX_BLOCKS
from ray_trash.image.decode import decode_photo
from tests.encoded import av1, box, encode, exif, extents, heic, heif, smooth_photo

SIZE = extents(64, 64)
TILE = (b"av01", av1(64, 64), [SIZE])


def refusal(encoded: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        read_container(encoded)
    return f"{caught.value.code}: {caught.value}"


def grid(rows: int, columns: int, width: int, height: int) -> tuple[bytes, bytes, list[bytes]]:
    return b"grid", struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, width, height), [extents(width, height)]


def test_a_picture_and_its_tiles_are_measured():
    assert read_container(heif([TILE])).width_px == 64
    container = read_container(heif([grid(2, 2, 128, 100), TILE, TILE, TILE, TILE], [(b"dimg", 1, [2, 3, 4, 5])]))
    assert (container.format, container.width_px, container.height_px) == ("AVIF", 128, 100)


@pytest.mark.parametrize(
    ("encoded", "says"),
    [
        (heif([(b"av01", av1(64, 64), [])]), "undecodable: .* no size"),
        (heif([(b"av01", av1(64, 64), [SIZE, SIZE])]), "undecodable: .* two properties ispe"),
        (heif([(b"av01", b"", [SIZE])]), "undecodable: .* no picture in it"),
        (heif([(b"av01", av1(64, 64) + b"\x32\x7f\x00", [SIZE])]), "undecodable: .* longer than the picture"),
        (heif([(b"av01", av1(64, 64) + b"\x12\x00" * 1000, [SIZE])]), "undecodable: .* more than 200 parts"),
        (heif([(b"av01", av1(64, 64) * 17, [SIZE])]), "undecodable: .* 17 headers"),
        (heif([TILE], more=[box(b"free", bytes(3 << 20))]), "undecodable: .* too long"),
        (heif([TILE]).replace(b"\x44\x00\x00\x01", b"\x00\x00\x00\x01"), "undecodable: .* no length"),
        (heif([(b"iden", b"", [SIZE])]), "unsupported_format: .*'iden'"),
        (heif([(b"hvc1", b"", [SIZE])]), "unsupported_format: .*'hvc1'"),
        (heif([(b"hvc1", b"", [SIZE])], brand=b"mif1"), "undecodable: .* configuration"),
        (heif([(b"hvc1", b"", [SIZE, box(b"hvcC", bytes(23))])], brand=b"mif1"), "undecodable: .* no picture in it"),
        (heif([(b"hvc1", bytes(9), [SIZE, box(b"hvcC", bytes(23))])], brand=b"mif1"), "undecodable: .* no end"),
        (heif([grid(1, 2, 128, 64), TILE], [(b"dimg", 1, [2])]), "undecodable: .* do not fit its grid"),
        (heif([grid(1, 2, 128, 64), TILE], [(b"dimg", 1, [2, 2])]), "undecodable: .* made of one another"),
        (heif([grid(1, 1, 64, 64), TILE], [(b"dimg", 1, [1])]), "undecodable: .* a tile of it is made of tiles"),
        (heif([(*grid(1, 1, 9000, 9000)[:2], [SIZE]), TILE], [(b"dimg", 1, [2])]), "undecodable: .* another size"),
        (heif([TILE], [(b"auxl", 1, [1])]), "undecodable: .* made of one another"),
        (heif([TILE] * 5, [(b"auxl", n + 1, [n]) for n in range(1, 5)]), "undecodable: .* made of one another"),
        (heif([TILE, (b"av01", av1(9000, 9000), [SIZE])], [(b"auxl", 2, [1])]), "too_many_pixels"),
        (heif([TILE, TILE], [(b"dimg", 1, [2]), (b"dimg", 1, [2])]), "undecodable: .* described twice"),
        (heif([TILE], more=[box(b"pitm", bytes(6))]), "undecodable: .* a box is there twice"),
        (heif([TILE], more=[box(b"free")] * (MAX_BLOCKS + 1)), "undecodable: .* boxes"),
        (heif([TILE], more=[struct.pack(">I4s", 4, b"free")]), "undecodable: .* shorter than its own header"),
        (heif([TILE], more=[struct.pack(">I4s", 999, b"free")]), "undecodable: .* reaches beyond"),
        (heif([TILE]).replace(b"pitm", b"free"), "undecodable: .* no pitm box"),
        (heif([TILE]).replace(b"infe", b"free"), "undecodable: .* before 2012"),
        (heif([TILE]).replace(b"meta", b"free"), "undecodable: .* no still picture"),
    ],
)
def test_boxes_that_make_no_picture_are_refused(encoded: bytes, says: str):
    assert re.match(says, refusal(encoded))


def test_pieces_that_lie_over_one_another_are_refused():
    encoded = heif([TILE, TILE, TILE], [(b"auxl", 2, [1])])
    iloc = encoded.index(b"iloc")
    (first,) = struct.unpack_from(">I", encoded, iloc + 4 + 8 + 6)
    whole = bytearray(encoded)
    for number in range(3):
        struct.pack_into(">II", whole, iloc + 12 + 14 * number + 6, 0, len(encoded))
    assert "lie over one another" in refusal(bytes(whole))
    assert first < len(encoded)
    struct.pack_into(">II", whole, iloc + 12 + 6, first, len(encoded))
    assert refusal(bytes(whole)).startswith("truncated")


def test_the_size_in_a_long_sequence_header_is_found():
    # Timing with ticks, a decoder model, display delays and two operating points, then 12 bits of width, 11 of height.
    points = f"{1:012b}{9:05b}1" + "1" + "0" * 21 + "11111" + f"{2:012b}{4:05b}" + "00"
    timing = "1" + "0" * 64 + "1" + "00101" + "1" + f"{9:05b}" + "0" * 42
    bits = "00000" + timing + "1" + f"{1:05b}" + points + f"{11:04b}{10:04b}{4031:012b}{2015:011b}"
    header = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    data = bytes([0x0A, len(header)]) + header + b"\x1a\x01\x00\x32\x01\x00"
    assert read_av1(data, "AVIF") == (4032, 2016, 2)


def test_what_an_encoder_writes_is_measured_as_it_is():
    for width, height in ((64, 64), (96, 40), (320, 200)):
        for encoded in (encode(smooth_photo(width, height), "AVIF"), heic(smooth_photo(width, height))):
            container = read_container(encoded)
            assert (container.width_px, container.height_px) == (width, height)


def test_a_parameter_set_among_the_slices_counts_too():
    encoded = heic(smooth_photo(64, 64))
    start = encoded.index(b"hvcC") + 4
    config = encoded[start : start + struct.unpack_from(">I", encoded, start - 8)[0] - 8]
    slices = encoded[encoded.index(b"mdat") + 4 :]
    assert read_hevc(config, slices, "HEIC") == (64, 64, 1)
    place = config.index(b"\x42\x01")
    inline = config[place - 2 : place + struct.unpack_from(">H", config, place - 2)[0]]
    assert read_hevc(config[:22] + b"\x00", b"\x00\x00" + inline + slices, "HEIC") == (64, 64, 1)


def test_decoders_are_shown_neither_metadata_nor_tracks():
    tag = exif(1)
    animated = encode(
        Image.fromarray(smooth_photo()),
        "AVIF",
        save_all=True,
        append_images=[Image.new("RGB", (96, 64), "red")],
        exif=tag,
        xmp=b"<x/>",
    )
    assert all(word in animated for word in (b"avis", b"moov", b"mime"))
    for encoded in (animated, heic(smooth_photo(), exif=tag)):
        picture = read_container(encoded).picture
        shown, _, _ = picture.partition(b"free")
        kinds = {shown[match.end() + 8 : match.end() + 12] for match in re.finditer(b"infe", shown)}
        assert kinds <= {b"av01", b"hvc1", b"skip"}
        assert not any(word in picture for word in (b"avis", b"moov"))
        assert len(picture) == len(encoded)


@pytest.mark.parametrize("after", [b"<?php evil ?>" * 50, bytes(500), box(b"mpvd", bytes(1000))])
def test_what_follows_the_picture_does_not_matter(after: bytes):
    for encoded in (encode(smooth_photo(), "AVIF"), heic(smooth_photo())):
        whole = decode_photo(encoded, min_short_side_px=64)
        np.testing.assert_array_equal(decode_photo(encoded + after, min_short_side_px=64), whole)


def test_a_heic_without_its_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pillow_heif.as_plugin", None)
    with pytest.raises(ImageError, match=r"pip install 'ray-trash\[heic\]'") as caught:
        decode_photo(heic(smooth_photo()), min_short_side_px=64)
    assert caught.value.code == "unsupported_format"
