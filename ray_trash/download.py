"""One file over HTTP, to disk: continued where an earlier try stopped, and never waited for without end.

A URL goes in, a file comes out. Whether it is the right file is for the caller to check.
"""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ray_trash.errors import DataError, StorageError

Progress = Callable[[int, int], None]
"""Told the bytes that are there and the bytes of the whole file, 0 where that is unknown."""


@dataclass(frozen=True)
class Patience:
    """How long to try.

    Attributes:
        timeout_s: How long a server may be silent.
        min_bytes_per_s: A transfer slower than this, seen over more than the timeout, has stopped.
        attempts: Including the first.
        first_pause_s: Before the second attempt; doubled before every further one.
    """

    timeout_s: float = 20.0
    min_bytes_per_s: float = 1024
    attempts: int = 5
    first_pause_s: float = 1.0


DEFAULT_PATIENCE = Patience()


_CHUNK_BYTES = 1 << 18
_PASSING_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
_RANGE_NOT_SATISFIABLE = 416


class _Interrupted(Exception):
    """This attempt ended early, and another one may go further."""


def download(
    url: str,
    target: Path,
    *,
    max_bytes: int,
    size_bytes: int | None = None,
    progress: Progress | None = None,
    patience: Patience = DEFAULT_PATIENCE,
) -> None:
    """Download a file, or the rest of it.

    Args:
        url: `http://` or `https://`.
        target: Where its bytes are added to those that an earlier call left there; it stays there
            when this one fails.
        max_bytes: More is refused.
        size_bytes: Of the whole file; None where it is not known, and then every call starts anew.
        progress: Called after every piece.
        patience: When to give up.

    Raises:
        DataError: The server cannot be reached, refuses, offers another size, or keeps breaking off.
        StorageError: The target cannot be written.
    """
    if not url.startswith(("http://", "https://")):
        raise DataError(f"{url}: not an http or https address")
    if size_bytes is None:
        target.unlink(missing_ok=True)
    reason = ""
    for attempt in range(patience.attempts):
        if attempt:
            time.sleep(patience.first_pause_s * 2 ** (attempt - 1))
        try:
            _continue(url, target, max_bytes, size_bytes, progress or _ignore, patience)
        except _Interrupted as interruption:
            reason = str(interruption)
        else:
            return
    raise DataError(
        f"{url}: the download broke off {patience.attempts} times, at last: {reason}; run the command again to go on"
    )


def _continue(
    url: str, target: Path, max_bytes: int, size_bytes: int | None, progress: Progress, patience: Patience
) -> None:
    done_bytes = target.stat().st_size if target.exists() else 0
    if done_bytes == size_bytes:
        return
    with _request(url, target, done_bytes, patience.timeout_s) as response:
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            done_bytes = 0
        elif not (response.headers["Content-Range"] or "").startswith(f"bytes {done_bytes}-"):
            target.unlink()
            raise _Interrupted("the server sent another part of the file")
        length = response.headers["Content-Length"]
        offered_bytes = done_bytes + int(length) if length and length.isdigit() else size_bytes
        if size_bytes not in (None, offered_bytes) or (offered_bytes or 0) > max_bytes:
            raise DataError(
                f"{url}: the server offers {offered_bytes} bytes, expected"
                f" {size_bytes or f'at most {max_bytes}'}; the file there is another one now"
            )
        with _opened(target, "ab" if done_bytes else "wb") as file:
            done_bytes = _receive(response, file, done_bytes, offered_bytes, max_bytes, progress, patience)
    if offered_bytes is not None and done_bytes != offered_bytes:
        raise _Interrupted(f"the connection was cut after {done_bytes} of {offered_bytes} bytes")


def _request(url: str, target: Path, done_bytes: int, timeout_s: float) -> http.client.HTTPResponse:
    headers = {"User-Agent": "ray-trash", **({"Range": f"bytes={done_bytes}-"} if done_bytes else {})}
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=timeout_s
        )
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in _PASSING_STATUSES:
            raise _Interrupted(f"the server answered {error.code} {error.reason}") from error
        if error.code == _RANGE_NOT_SATISFIABLE and done_bytes:
            target.unlink()
            raise _Interrupted("the server's file is shorter than what was there") from error
        raise DataError(f"{url}: the server answered {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DataError(f"{url}: cannot be reached: {getattr(error, 'reason', error)}") from error
    return response


def _receive(
    response: http.client.HTTPResponse,
    file: IO[bytes],
    done_bytes: int,
    offered_bytes: int | None,
    max_bytes: int,
    progress: Progress,
    patience: Patience,
) -> int:
    started_s, received_bytes = time.monotonic(), 0
    while True:
        try:
            chunk = response.read1(_CHUNK_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise _Interrupted(f"after {done_bytes} bytes: {error}") from error
        if not chunk:
            return done_bytes
        done_bytes += len(chunk)
        received_bytes += len(chunk)
        if done_bytes > max_bytes:
            raise DataError(f"{response.url}: sends more than {max_bytes} bytes; it is another file")
        try:
            file.write(chunk)
        except OSError as error:
            raise StorageError(f"{file.name}: cannot be written: {error.strerror}") from error
        progress(done_bytes, offered_bytes or 0)
        elapsed_s = time.monotonic() - started_s
        if elapsed_s > patience.timeout_s and received_bytes < patience.min_bytes_per_s * elapsed_s:
            raise _Interrupted(f"less than {patience.min_bytes_per_s:g} bytes a second came")


def _opened(target: Path, mode: str) -> IO[bytes]:
    try:
        return target.open(mode, buffering=0)
    except OSError as error:
        raise StorageError(f"{target}: cannot be written: {error.strerror}") from error


def _ignore(done_bytes: int, total_bytes: int) -> None:
    pass
