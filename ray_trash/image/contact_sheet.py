"""Photos side by side in one picture, for people to look at."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ray_trash.image.encode import png_file

_WIDTH_MAX_PX = 2000
_THUMBNAIL_PX = 128
_GAP_PX = 8
_TITLE_PX = 20
_FONT_PX = 13
_COLUMNS_MAX = (_WIDTH_MAX_PX - _GAP_PX) // (_THUMBNAIL_PX + _GAP_PX)
_COLUMNS_MIN = 4  # leaves room for a title of some fifty letters

_BACKGROUND = (255, 255, 255)
_INK = (32, 32, 32)


def contact_sheet(rows: Sequence[tuple[str, Sequence[np.ndarray]]]) -> bytes:
    """Draw titled rows of thumbnails of photos (height, width, 3), uint8, RGB, as a PNG file at most 2000 pixels wide.

    What is not printable ASCII in a title is written as an escape. A row of more than 14 photos goes on below.
    """
    widest = max((len(photos) for _, photos in rows), default=0)
    columns = min(_COLUMNS_MAX, max(_COLUMNS_MIN, widest))
    step_px = _THUMBNAIL_PX + _GAP_PX
    lines = [math.ceil(len(photos) / columns) for _, photos in rows]
    width_px = _GAP_PX + columns * step_px
    height_px = _GAP_PX + sum(_TITLE_PX + n * step_px for n in lines)
    sheet = Image.new("RGB", (width_px, height_px), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(_FONT_PX)
    top = _GAP_PX
    for (title, photos), n_lines in zip(rows, lines, strict=True):
        text = _fitting(draw, font, title, width_px - 2 * _GAP_PX)
        draw.text((_GAP_PX, top), text, fill=_INK, font=font)
        top += _TITLE_PX
        for i, photo in enumerate(photos):
            thumbnail = _thumbnail(photo)
            left_px = _GAP_PX + i % columns * step_px + (_THUMBNAIL_PX - thumbnail.width) // 2
            top_px = top + i // columns * step_px + (_THUMBNAIL_PX - thumbnail.height) // 2
            sheet.paste(thumbnail, (left_px, top_px))
        top += n_lines * step_px
    return png_file(sheet)


def _thumbnail(photo: np.ndarray) -> Image.Image:
    image = Image.fromarray(photo)
    scale = min(1.0, _THUMBNAIL_PX / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BICUBIC)


def _fitting(
    draw: ImageDraw.ImageDraw, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, title: str, width_px: int
) -> str:
    text = title.encode("unicode_escape").decode("ascii")
    if draw.textlength(text[:1000], font=font) <= width_px and len(text) <= 1000:
        return text
    length = min(len(text), 1000)
    while length and draw.textlength(text[:length] + "...", font=font) > width_px:
        length -= 1
    return text[:length] + "..."
