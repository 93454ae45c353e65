"""File names as old and new clients spell them in the headers of a body."""

from __future__ import annotations

import contextlib
import re
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from urllib.parse import unquote

_MAX_CHARACTERS = 1024
_ENCODED_WORD = re.compile(r"=\?[\w-]+\?[bq]\?[^?]*\?=", re.IGNORECASE)
"""As .NET and mail programs write what is not ASCII. Source: RFC 2047, 2."""
_EXTENDED = re.compile(rb";\s*filename\*\s*=\s*\"?([\w-]+)'[\w-]*'([^;\s\"]+)", re.IGNORECASE)
"""As urllib3 wrote it, and .NET does beside the plain one. Source: RFC 5987, 3.2."""


def shortened(name: str) -> str:
    """Return a name that is not longer than 1024 characters, and that UTF-8 can hold."""
    # Surrogates, which JSON can spell and UTF-8 cannot hold, become question marks.
    return name[:_MAX_CHARACTERS].encode("utf-8", "replace").decode("utf-8")


def read_name(spelled: str) -> str:
    """Return a file name as its owner knows it, shortened.

    A percent sign that stands for nothing but ASCII stays: it may be the name's own.
    """
    name = spelled[: 2 * _MAX_CHARACTERS]  # what follows takes the square of that
    if _ENCODED_WORD.search(name):
        with contextlib.suppress(HeaderParseError, LookupError, ValueError):
            name = str(make_header(decode_header(name)))
    decoded = unquote(name, errors="replace")
    if name.isascii() and not decoded.isascii() and "\ufffd" not in decoded:
        name = decoded
    return shortened(name)


def header_text(value: str) -> str:
    """Read a header as UTF-8 where it is UTF-8; HTTP libraries take every byte for a character of Latin-1."""
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value


def with_plain_file_name(disposition: bytes) -> bytes:
    """Return a `Content-Disposition` whose `filename*`, which says more, is its `filename` too."""
    found = _EXTENDED.search(disposition)
    if found is None:
        return disposition
    try:
        name = unquote(found[2].decode("ascii"), found[1].decode("ascii"), "strict")
    except (LookupError, UnicodeError):
        return disposition
    return disposition + b'; filename="' + name.replace("\\", "\\\\").replace('"', '\\"').encode() + b'"'
