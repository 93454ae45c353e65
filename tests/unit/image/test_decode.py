from __future__ import annotations

import json
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from ray_trash.errors import ImageError
from ray_trash.image.decode import MAX_FILE_BYTES, MAX_PIXELS, decode_photo, open_photo
from tests.corpus import LOSSY_TOLERANCE, image_corpus, is_lossy
from tests.encoded import blank_png_of, encode, heic, jpeg, png, png_rows, smooth_photo

PIXELS_50_MILLION = (8000, 6250)


def verdict(encoded: bytes) -> str | None:
    try:
        decode_photo(encoded, min_short_side_px=64)
    except ImageError as error:
        return error.code
    return None


def refusal(name: str) -> str:
    with pytest.raises(ImageError) as caught:
        decode_photo(image_corpus()[name].encoded, min_short_side_px=64)
    return str(caught.value)


def test_every_file_of_the_corpus_gets_its_verdict():
    wrong = {
        name: (case.code, got) for name, case in image_corpus().items() if (got := verdict(case.encoded)) != case.code
    }
    assert wrong == {}


def test_every_photo_of_the_corpus_looks_like_its_reference():
    wrong = {}
    for name, case in image_corpus().items():
        if case.reference is None:
            continue
        photo = decode_photo(case.encoded, min_short_side_px=64)
        if photo.shape != case.reference.shape:
            wrong[name] = f"{photo.shape} instead of {case.reference.shape}"
            continue
        difference = int(np.abs(photo.astype(int) - case.reference).max())
        if difference > (LOSSY_TOLERANCE if is_lossy(case.encoded) else 0):
            wrong[name] = f"differs by {difference}"
    assert wrong == {}


def test_a_refusal_costs_less_than_a_quarter_second():
    slow = {}
    for name, case in image_corpus().items():
        if case.code is not None:
            start_s = time.thread_time()
            verdict(case.encoded)
            if (cost_s := time.thread_time() - start_s) > 0.25:
                slow[name] = cost_s
    assert slow == {}


def test_decoding_prints_nothing(capfd: pytest.CaptureFixture[str]):
    for name, case in image_corpus().items():
        if name.startswith("cut_to") or name.endswith((".tif", ".jpg", ".gif")):
            verdict(case.encoded)
    assert capfd.readouterr() == ("", "")


def test_every_way_to_cut_a_file_is_refused_or_decodes_whole():
    photo = smooth_photo(24, 16)
    files = [encode(photo, name) for name in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "AVIF")]
    files.append(heic(photo))
    files.append(encode(Image.fromarray(photo).quantize(16), "GIF"))
    for encoded in files:
        whole = decode_photo(encoded, min_short_side_px=64)
        for length in range(1, len(encoded)):
            code = verdict(encoded[:length])
            assert code in (None, "truncated", "undecodable", "unsupported_format")
            if code is None:
                cut = decode_photo(encoded[:length], min_short_side_px=64)
                np.testing.assert_array_equal(cut, whole)


def test_flipped_bytes_give_a_photo_or_an_image_error():
    random = np.random.default_rng(0)
    palette = Image.fromarray(smooth_photo(40, 30)).quantize(32)
    seeds = [
        encode(smooth_photo(40, 30), "JPEG"),
        encode(smooth_photo(40, 30), "PNG"),
        encode(palette, "PNG", transparency=3),
        encode(palette, "GIF"),
        encode(smooth_photo(40, 30), "WEBP", exact=True),
        encode(palette, "BMP"),
        encode(smooth_photo(40, 30), "TIFF"),
        encode(palette, "TIFF"),
        encode(smooth_photo(40, 30), "AVIF"),
        heic(smooth_photo(40, 30)),
    ]
    for seed in seeds:
        for _ in range(60):
            damaged = bytearray(seed)
            for place in random.integers(0, len(seed), random.integers(1, 5)):
                damaged[place] = random.integers(256)
            try:
                photo = decode_photo(bytes(damaged), min_short_side_px=64)
            except ImageError:
                continue
            assert photo.dtype == np.uint8
            assert photo.shape[2:] == (3,)


def test_a_photo_is_contiguous_and_writable():
    for encoded in (jpeg(smooth_photo()), encode(Image.fromarray(smooth_photo()).convert("LA"), "PNG")):
        photo = decode_photo(encoded, min_short_side_px=64)
        assert photo.dtype == np.uint8
        assert photo.flags.c_contiguous
        assert photo.flags.writeable


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("lfs_pointer.jpg", "git lfs pull"),
        ("magic_only.heic", "HEIC"),
        ("raw.cr3", "raw picture"),
        ("nikon.nef", "raw picture"),
        ("pro.dng", "raw picture"),
        ("jpeg_xl.jpg", "JPEG XL"),
        ("claims_8000x8000.avif", "holds fewer"),
        ("six_frames_of_64_megapixels.avif", "too long"),
        ("pdf.jpg", "PDF"),
        ("svg.png", "SVG"),
        ("svg_xxe.png", "SVG"),
        ("eps.jpg", "PostScript"),
        ("dos_eps.jpg", "PostScript"),
        ("mp4.jpg", "video"),
        ("html.jpg", "HTML"),
        ("json.jpg", "text"),
        ("zip.jpg", "ZIP"),
        ("noise.jpg", "no picture format"),
        ("int32.tif", "32-bit"),
        ("twelve_bits.jpg", "12 bits"),
        ("zeros.jpg", "zero bytes"),
        ("400_scans.jpg", "scans"),
    ],
)
def test_a_refusal_names_what_the_file_is(name: str, words: str):
    assert words in refusal(name)


def test_the_refusal_of_another_format_lists_the_supported_ones():
    assert "JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF and HEIC" in refusal("pdf.jpg")


def test_the_pixel_limit_is_met_exactly():
    assert verdict(blank_png_of(MAX_PIXELS // 8000, 8001)) == "too_many_pixels"
    assert MAX_PIXELS == 80_000_000


def test_the_byte_limit_is_met_exactly():
    encoded = jpeg(smooth_photo())
    assert verdict(encoded + bytes(MAX_FILE_BYTES - len(encoded))) is None
    assert verdict(encoded + bytes(MAX_FILE_BYTES - len(encoded) + 1)) == "too_large"


def test_a_large_jpeg_comes_smaller_but_twice_as_large_as_asked_for():
    encoded = jpeg(smooth_photo(1000, 600))
    assert decode_photo(encoded, min_short_side_px=300).shape == (600, 1000, 3)
    assert decode_photo(encoded, min_short_side_px=150).shape == (300, 500, 3)
    assert decode_photo(encoded, min_short_side_px=100).shape == (300, 500, 3)
    assert decode_photo(encoded, min_short_side_px=30).shape == (75, 125, 3)


def test_a_jpeg_decoded_smaller_is_turned_upright():
    stored = Image.fromarray(smooth_photo(1000, 600)).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[274] = 6
    photo = decode_photo(jpeg(stored, exif=exif), min_short_side_px=100)
    small = np.asarray(Image.fromarray(smooth_photo(1000, 600)).reduce(2)).astype(int)
    assert photo.shape == small.shape
    assert np.abs(photo - small).max() <= LOSSY_TOLERANCE


def test_many_threads_get_the_same_photo():
    encoded = jpeg(smooth_photo(900, 700), progressive=True)
    names = ("rgba.png", "grey16_key.png", "orientation_6.jpg", "palette_alphas.png", "lzw.tif")
    files = [encoded, *(image_corpus()[name].encoded for name in names)]
    alone = [decode_photo(file, min_short_side_px=100) for file in files]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(10):
            together = pool.map(lambda file: decode_photo(file, min_short_side_px=100), files * 2)
            for photo, expected in zip(together, alone * 2, strict=True):
                np.testing.assert_array_equal(photo, expected)


def test_decoding_changes_nothing_global():
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters), dict(Image.OPEN))
    for name in ("rgba.png", "144_megapixels.png", "5000_frames.gif", "eps.jpg", "bad_exif.jpg"):
        verdict(image_corpus()[name].encoded)
    after = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters), dict(Image.OPEN))
    assert after == before


def test_a_decode_stops_at_its_time_limit():
    with pytest.raises(ImageError, match="took more than") as caught:
        open_photo(jpeg(smooth_photo()), min_short_side_px=64, timeout_s=-1)
    assert caught.value.code == "undecodable"


def test_transparency_in_bands_is_the_same_as_in_one():
    # 4000x1500 is more than one band, and has a hole across the border between two.
    pixels = np.zeros((1500, 4000, 4), np.uint8)
    pixels[900:1100, 10:20] = (1, 2, 3, 255)
    photo = decode_photo(encode(pixels, "PNG", compress_level=1), min_short_side_px=64)
    expected = np.full((1500, 4000, 3), 255, np.uint8)
    expected[900:1100, 10:20] = (1, 2, 3)
    np.testing.assert_array_equal(photo, expected)


def test_the_transparent_colour_of_a_small_grey_depth_is_scaled():
    # 4 bits a sample: 15, 7 and two of 3, the transparent one.
    rows = png_rows(np.array([[0xF7, 0x33]], np.uint8))
    encoded = png(4, 1, rows, bits=4, colour_type=0, before=[(b"tRNS", b"\x00\x03")])
    assert decode_photo(encoded, min_short_side_px=1)[0, :, 0].tolist() == [255, 119, 255, 255]


MEASURE = """
import json, pathlib, re, sys
from ray_trash.errors import ImageError
from ray_trash.image.decode import open_photo
# Not getrusage: its peak survives exec, so a child starts with its parent's.
status = pathlib.Path("/proc/self/status")
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1]) / 1024
grown = {}
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    encoded = path.read_bytes()
    before = peak()
    try:
        open_photo(encoded, min_short_side_px=256)
    except ImageError:
        pass
    grown[path.name] = peak() - before
print(json.dumps(grown))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak memory from Linux's /proc")
def test_bombs_and_phone_photos_stay_within_100_mib(tmp_path: Path):
    tmp_path.joinpath("phone.jpg").write_bytes(jpeg(Image.new("RGB", PIXELS_50_MILLION, (90, 120, 150)), quality=75))
    tmp_path.joinpath("large_phone.jpg").write_bytes(jpeg(Image.new("L", (16_320, 12_240), 120), quality=75))
    for name, case in image_corpus().items():
        if case.code == "too_many_pixels" or "bomb" in name or "claims" in name or "scans" in name:
            tmp_path.joinpath(name).write_bytes(case.encoded)
    # A peak never falls, so each file is charged with what it adds to it.
    command = [sys.executable, "-c", MEASURE, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3])
    grown: dict[str, float] = json.loads(result.stdout)
    assert len(grown) > 20
    assert sum(grown.values()) < 100, grown


STARVE = """
import pathlib, resource, sys
from ray_trash.errors import ImageError
from ray_trash.image.decode import open_photo
encoded = sys.stdin.buffer.read()
in_use = int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (in_use + (50 << 20),) * 2)
try:
    open_photo(encoded, min_short_side_px=256)
except ImageError as error:
    print(error.code, error)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads its own size from Linux's /proc")
def test_a_photo_that_memory_does_not_suffice_for_is_an_image_error():
    encoded = image_corpus()["79_megapixels.png"].encoded
    command = [sys.executable, "-c", STARVE]
    result = subprocess.run(command, input=encoded, capture_output=True, check=True, cwd=Path(__file__).parents[3])
    assert result.stdout.startswith(b"undecodable")
    assert b"not enough memory" in result.stdout


def test_a_photo_of_50_million_pixels_is_accepted():
    encoded = jpeg(Image.new("RGB", PIXELS_50_MILLION, (90, 120, 150)), quality=75)
    photo = decode_photo(encoded, min_short_side_px=256)
    assert photo.shape == (782, 1000, 3)
    assert np.abs(photo.astype(int) - (90, 120, 150)).max() <= LOSSY_TOLERANCE


def test_a_jpeg_of_a_phones_200_million_pixels_comes_at_a_fraction_of_its_size():
    encoded = jpeg(Image.new("L", (16_320, 12_240), 120), quality=75)
    assert decode_photo(encoded, min_short_side_px=256).shape == (1530, 2040, 3)
    assert decode_photo(encoded, min_short_side_px=9000).shape == (6120, 8160, 3)


def test_a_progressive_jpeg_that_libjpeg_would_hold_whole_is_refused_by_name():
    assert "progressive" in refusal("progressive_of_169_megapixels.jpg")
