"""Pictures that this program draws, as files."""

from __future__ import annotations

import io

from PIL import Image


def png_file(picture: Image.Image) -> bytes:
    """Encode a picture as a PNG file, which loses nothing."""
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()
