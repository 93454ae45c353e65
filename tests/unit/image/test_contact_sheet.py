from __future__ import annotations

import io

import numpy as np
from PIL import Image

from ray_trash.image.contact_sheet import contact_sheet
from tests.encoded import smooth_photo


def draw(rows: list[tuple[str, list[np.ndarray]]]) -> np.ndarray:
    with Image.open(io.BytesIO(contact_sheet(rows))) as sheet:
        assert sheet.format == "PNG"
        return np.asarray(sheet.convert("RGB"))


def test_every_photo_is_on_the_sheet():
    colours = [(200, 10, 10), (10, 200, 10), (10, 10, 200)]
    rows = [(str(i), [np.full((40, 60, 3), colour, np.uint8)] * 20) for i, colour in enumerate(colours)]
    sheet = draw(rows)
    for colour in colours:
        assert (sheet == colour).all(-1).sum() == 20 * 40 * 60


def test_the_sheet_is_no_wider_than_2000_pixels():
    sheet = draw([("many", [smooth_photo()] * 100)])
    assert sheet.shape[1] <= 2000


def test_a_large_photo_becomes_a_thumbnail_of_its_shape():
    sheet = draw([("", [np.zeros((1000, 500, 3), np.uint8)])])
    dark = sheet.max(-1) < 10
    assert np.ptp(np.nonzero(dark.any(1))[0]) + 1 == 128
    assert np.ptp(np.nonzero(dark.any(0))[0]) + 1 == 64


def test_any_title_is_drawn():
    titles = ["Müll ♻ 日本語", "a\nb\tc\x00", "\ud800 lone", "<img src=x>", "x" * 5000, "", "\u202egnp.exe"]
    sheet = draw([(title, [smooth_photo()]) for title in titles])
    assert sheet.shape[1] <= 2000
    assert 32 in sheet.max(-1)


def test_no_rows_and_rows_of_no_photos_are_drawn():
    assert draw([]).size > 0
    assert draw([("nothing", [])]).size > 0


def test_odd_photos_are_drawn():
    assert draw([("odd", [np.zeros((1, 1, 3), np.uint8), np.zeros((1, 900, 3), np.uint8)])]).size > 0
