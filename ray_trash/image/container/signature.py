"""Which format a file is, by its first bytes."""

from __future__ import annotations

from ray_trash.errors import ImageError
from ray_trash.image.container.layout import Format

SUPPORTED_FORMATS = "JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF and HEIC"
"""The formats that are opened, as messages name them."""

_SMALLEST_FILE_BYTES = 20
"""Shorter than any whole file of these formats."""

_SIGNATURES: tuple[tuple[bytes, Format], ...] = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
)

_AVIF_BRANDS = {b"avif", b"avis"}
_HEIC_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}
"""What an ISO media file calls itself, first or among others. Source: ISO/IEC 23008-12, annex B."""

_OTHERS: tuple[tuple[int, bytes, str], ...] = (
    (0, b"version https://git-lfs", "a Git LFS pointer, not the photo; run `git lfs pull`"),
    (0, b"%PDF", "a PDF"),
    (0, b"%!PS", "a PostScript (EPS) file"),
    (0, b"\xc5\xd0\xd3\xc6", "a PostScript (EPS) file"),
    (4, b"ftypcrx ", "a camera's raw picture (CR3)"),
    (0, b"IIRO", "a camera's raw picture (ORF)"),
    (0, b"IIRS", "a camera's raw picture (ORF)"),
    (0, b"IIU\x00", "a camera's raw picture (RW2)"),
    (0, b"FUJIFILMCCD-RAW", "a camera's raw picture (RAF)"),
    (4, b"ftyp", "an MP4 or QuickTime video"),
    (4, b"JXL ", "a JPEG XL picture"),
    (0, b"\xff\x0a", "a JPEG XL picture"),
    (4, b"jP  ", "a JPEG 2000 picture"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"\x00\x00\x01\x00", "a Windows icon"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"\x7fELF", "a program"),
    (0, b"MZ", "a program"),
    (0, b"\x1aE\xdf\xa3", "a Matroska or WebM video"),
    (0, b"\x80\x04\x95", "a Python pickle"),
)

_TEXT_BYTES = bytes({7, 8, 9, 10, 12, 13, 27} | set(range(0x20, 0x100)) - {0x7F})


def identify(encoded: bytes) -> Format:
    """Name the format of a file that is not empty.

    Raises:
        ImageError: `unsupported_format` with what it is instead, where its first bytes tell; `undecodable`
            where there is nothing to tell from: too few bytes, or only zeros.
    """
    for signature, name in _SIGNATURES:
        if encoded.startswith(signature):
            return _unless_too_short(encoded, name)
    if encoded.startswith(b"RIFF") and b"WEBP".startswith(encoded[8:12]):
        return _unless_too_short(encoded, "WEBP")
    if encoded[4:8] == b"ftyp" and (family := _heif(encoded)) is not None:
        return _unless_too_short(encoded, family)
    if len(encoded) < 4:
        raise ImageError("undecodable", f"{len(encoded)} bytes are too few for a photo")
    if not encoded.strip(b"\x00"):
        raise ImageError("undecodable", "the file holds zero bytes only, as after a failed copy; copy it again")
    raise ImageError("unsupported_format", f"the file is {_describe(encoded)}; supported are {SUPPORTED_FORMATS}")


def _heif(encoded: bytes) -> Format | None:
    brands = {encoded[start : start + 4] for start in (8, *range(16, min(int.from_bytes(encoded[:4], "big"), 128), 4))}
    if brands & _AVIF_BRANDS:
        return "AVIF"
    return "HEIC" if brands & _HEIC_BRANDS else None


def _unless_too_short(encoded: bytes, name: Format) -> Format:
    if len(encoded) < _SMALLEST_FILE_BYTES:
        raise ImageError("undecodable", f"the {name} file has no more than its first few bytes")
    return name


def _describe(encoded: bytes) -> str:
    for start, magic, description in _OTHERS:
        if encoded.startswith(magic, start):
            return description
    head = encoded[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if b"<svg" in head:
        return "an SVG drawing"
    if head.startswith((b"<!doctype html", b"<html")):
        return "an HTML page"
    if not head.translate(None, _TEXT_BYTES):
        return "a text file"
    return "no picture format that is known here"
