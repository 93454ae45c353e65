"""From a request's body to named photos: multipart, one raw photo, or JSON. Decodes no photo.

Bodies are limited before they come here; this limits what is in them. What a body's type leaves open, its bytes say.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from ray_trash.errors import ImageError
from ray_trash.image.container.signature import identify
from ray_trash.serve.contract import ServeError
from ray_trash.serve.names import header_text, read_name, shortened, with_plain_file_name

IMAGE_TYPES = tuple(f"image/{kind}" for kind in ("jpeg", "png", "webp", "bmp", "gif", "tiff", "avif", "heic", "heif"))
"""Types of a raw body, as they are described; any other of `image/` is read just so."""
ANY_TYPE = "application/octet-stream"
FIELD = "images"
_SPELLINGS = re.compile(rf"{FIELD}(\[\d*\])?")
"""As PHP, axios and .NET call the fields of a list."""
_OPEN_TYPES = ("", ANY_TYPE, "binary/octet-stream", "*/*")
"""They say nothing."""
_PRESET_TYPES = ("application/x-www-form-urlencoded", "text/plain")
"""What clients say where nobody told them, as curl does; a photo or JSON is sent so, or what they say."""
_JSON_STARTS = (b"{", b"[")
_BEFORE_JSON = b"\xef\xbb\xbf\xff\xfe\x00 \t\r\n"
"""Byte order marks, blanks, and the other half of UTF-16."""
_ALPHABET = bytes.maketrans(b"-_", b"+/")
"""From the URL-safe base64 to the other. Source: RFC 4648, 5."""
_MAX_OTHER_FIELDS = 16
_MAX_JSON_PARTS = 100_000
"""Braces, brackets and commas in a body: a hundred times what the largest batch has."""


@dataclass(frozen=True)
class Photos:
    """The photos of a request, in order; `single` where the body is one raw photo."""

    names: tuple[str, ...]
    encoded: tuple[bytes | None, ...]
    """Their bytes; None where the client's base64 is none."""
    single: bool = False


async def read_photos(request: Request, *, max_images: int) -> Photos:
    """Read the photos of a request.

    Raises:
        ServeError: 415 for a type that is not taken, 413 for too many photos, 400 for anything else.
    """
    if request.headers.get("content-encoding", "").lower() not in ("", "identity"):
        raise _unsupported("compressed bodies are not taken; send the photos as they are")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        photos = await _read_multipart(request, max_images)
    elif _is_json(kind):
        photos = await asyncio.to_thread(_read_json, await request.body(), max_images)
    elif kind in (*_OPEN_TYPES, *_PRESET_TYPES) or (kind.startswith("image/") and kind != "image/svg+xml"):
        photos = await _read_by_content(request, kind, max_images)
    else:
        raise _wrong_type(kind)
    if not photos.names:
        raise ServeError(400, "no_images", f"the request has no photos; send them as multipart fields called {FIELD}")
    return photos


def _is_json(kind: str) -> bool:
    return kind in ("application/json", "text/json") or (kind.startswith("application/") and kind.endswith("+json"))


async def _read_by_content(request: Request, kind: str, max_images: int) -> Photos:
    body = await request.body()
    if not kind.startswith("image/"):
        if not body:
            return Photos((), ())
        if body[:64].lstrip(_BEFORE_JSON).startswith(_JSON_STARTS):
            return await asyncio.to_thread(_read_json, body, max_images)
    if kind in _PRESET_TYPES:
        try:
            identify(body)
        except ImageError as error:
            raise _wrong_type(kind) from error
    name = read_name(header_text(request.headers.get("x-file-name", "image")))
    return Photos((name,), (body,), single=True)


class _Parser(MultiPartParser):
    """Takes file names that are only written as `filename*`, which RFC 7578 forbids and old clients do."""

    def on_headers_finished(self) -> None:
        part = self._current_part
        part.content_disposition = with_plain_file_name(part.content_disposition or b"")
        super().on_headers_finished()


async def _read_multipart(request: Request, max_images: int) -> Photos:
    # One file more than is taken is read, to tell "too many" from what cannot be parsed.
    limits = {"max_files": max_images + 1, "max_fields": _MAX_OTHER_FIELDS}
    try:
        form = await _Parser(request.headers, request.stream(), **limits).parse()
    except MultiPartException as error:
        if error.message.startswith("Too many files"):
            raise _too_many(max_images) from error
        if error.message.startswith("Missing boundary"):
            raise _bad_request(
                "the content type names no boundary: leave it to your HTTP library, which writes one"
            ) from error
        raise _bad_request(f"the multipart body cannot be read: {error.message}") from error
    except (ValueError, KeyError, UnicodeError) as error:
        raise _bad_request("the multipart body cannot be read") from error
    try:
        fields = form.multi_items()
        foreign = sorted({name for name, _ in fields if not _SPELLINGS.fullmatch(name)})
        if foreign:
            raise _bad_request(f"unknown field {foreign[0][:80]!r}: photos go into fields called {FIELD}")
        if len(fields) > max_images:
            raise _too_many(max_images)
        uploads = [value for _, value in fields if isinstance(value, UploadFile)]
        if len(uploads) < len(fields):
            raise _bad_request(f"a field {FIELD} is text, not a file: give it a file name")
        names = tuple(read_name(upload.filename or f"image-{n}") for n, upload in enumerate(uploads))
        return Photos(names, tuple([await upload.read() for upload in uploads]))
    finally:
        await form.close()


def _read_json(body: bytes, max_images: int) -> Photos:
    # Counted before it becomes objects, which take fifty times as much memory.
    if sum(map(body.count, (b"{", b"[", b","))) > _MAX_JSON_PARTS:
        raise _bad_request("the body has far more in it than photos")
    try:
        tree: Any = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _bad_request("the body is not valid JSON") from error
    images = tree.get(FIELD) if isinstance(tree, dict) else None
    if not isinstance(images, list) or not all(isinstance(image, dict) for image in images):
        raise _bad_request('expected {"images": [{"name": "a.jpg", "data": "<base64>"}]}')
    if set(tree) - {FIELD}:
        raise _bad_request(f"unknown key beside {FIELD}")
    if len(images) > max_images:
        raise _too_many(max_images)
    names: list[str] = []
    encoded: list[bytes | None] = []
    for number, image in enumerate(images):
        name, data = image.get("name", f"image-{number}"), image.get("data")
        if not isinstance(name, str) or not isinstance(data, str) or set(image) - {"name", "data"}:
            raise _bad_request(f"images[{number}]: expected the strings name (may be left out) and data")
        names.append(shortened(name))
        encoded.append(_from_base64(data))
    return Photos(tuple(names), tuple(encoded))


def _from_base64(text: str) -> bytes | None:
    # As clients make it: for a page, in lines, for a URL, without padding.
    if text.startswith("data:"):
        _, marked, text = text.partition(";base64,")
        if not marked:
            return None
    try:
        data = text.encode("ascii").translate(_ALPHABET, b" \t\r\n").rstrip(b"=")
        return base64.b64decode(data + b"=" * (-len(data) % 4), validate=True)
    except ValueError:
        return None


def _wrong_type(kind: str) -> ServeError:
    taken = f"multipart/form-data, application/json, or a photo's own, such as {IMAGE_TYPES[0]}"
    return _unsupported(f"the content type is {kind[:80]!r}; expected {taken}")


def _unsupported(message: str) -> ServeError:
    return ServeError(415, "unsupported_media_type", message)


def _bad_request(message: str) -> ServeError:
    return ServeError(400, "bad_request", message)


def _too_many(max_images: int) -> ServeError:
    return ServeError(413, "too_many_images", f"more than {max_images} photos; send them in several requests")
