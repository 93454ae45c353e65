"""From a request's body to named photos: multipart, one raw photo, or JSON. Decodes no photo.

Bodies are limited before they come here; this limits what is in them.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request

from ray_trash.serve.contract import ServeError

IMAGE_TYPES = tuple(f"image/{kind}" for kind in ("jpeg", "png", "webp", "bmp", "gif", "tiff", "avif", "heic", "heif"))
"""Types a raw body may have; what the photo really is, its bytes say."""
FIELD = "images"
_MAX_OTHER_FIELDS = 16
_MAX_NAME_CHARACTERS = 1024
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
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise ServeError(415, "unsupported_media_type", "compressed bodies are not taken; send the photos as they are")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        photos = await _read_multipart(request, max_images)
    elif kind == "application/json":
        photos = await asyncio.to_thread(_read_json, await request.body(), max_images)
    elif kind in IMAGE_TYPES:
        photos = Photos((_shortened(request.headers.get("x-file-name", "image")),), (await request.body(),), True)
    else:
        taken = ", ".join(("multipart/form-data", "application/json", *IMAGE_TYPES))
        raise ServeError(415, "unsupported_media_type", f"the content type is not one of {taken}")
    if not photos.names:
        raise ServeError(400, "no_images", f"the request has no photos; send them as multipart fields called {FIELD}")
    return photos


async def _read_multipart(request: Request, max_images: int) -> Photos:
    try:
        # One file more than is taken is read, to tell "too many" from what cannot be parsed.
        form = await request.form(max_files=max_images + 1, max_fields=_MAX_OTHER_FIELDS)
    except (MultiPartException, HTTPException) as error:
        detail = str(getattr(error, "message", None) or getattr(error, "detail", ""))
        if detail.startswith("Too many files"):
            raise _too_many(max_images) from error
        raise _bad_request(f"the multipart body cannot be read: {detail}") from error
    except (ValueError, KeyError, UnicodeError) as error:
        raise _bad_request("the multipart body cannot be read") from error
    try:
        fields = form.multi_items()
        foreign = sorted({name for name, _ in fields if name != FIELD})
        if foreign:
            raise _bad_request(f"unknown field {foreign[0][:80]!r}: photos go into fields called {FIELD}")
        if len(fields) > max_images:
            raise _too_many(max_images)
        uploads = [value for _, value in fields if isinstance(value, UploadFile)]
        if len(uploads) < len(fields):
            raise _bad_request(f"a field {FIELD} is text, not a file: give it a file name")
        names = tuple(_shortened(upload.filename or f"image-{n}") for n, upload in enumerate(uploads))
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
        names.append(_shortened(name))
        try:
            encoded.append(base64.b64decode(data, validate=True))
        except (binascii.Error, ValueError):
            encoded.append(None)
    return Photos(tuple(names), tuple(encoded))


def _bad_request(message: str) -> ServeError:
    return ServeError(400, "bad_request", message)


def _too_many(max_images: int) -> ServeError:
    return ServeError(413, "too_many_images", f"more than {max_images} photos; send them in several requests")


def _shortened(name: str) -> str:
    # Surrogates, which JSON can spell and UTF-8 cannot hold, become question marks.
    return name[:_MAX_NAME_CHARACTERS].encode("utf-8", "replace").decode("utf-8")
