"""One file over HTTP, to disk: continued where an earlier try stopped, and never waited for without end.

Whether it is the right file is for the caller to check. Proxies and certificate authorities come from the environment.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from ray_trash.errors import ConfigError, DataError, StorageError
from ray_trash.outbound import open_client, way_to

OnBytes = Callable[[int, int], None]
"""Told the bytes that are there and the bytes of the whole file, 0 where that is unknown."""


@dataclass(frozen=True)
class Patience:
    """How long to try.

    An attempt ends when the server is silent for `timeout_s`, or slower than `min_bytes_per_s` over more than that.
    The second one comes after `first_pause_s`; the pause doubles before every further one.
    """

    timeout_s: float = 20.0
    min_bytes_per_s: float = 1024
    attempts: int = 5
    first_pause_s: float = 1.0


DEFAULT_PATIENCE = Patience()
_HEADERS = {"User-Agent": "ray-trash", "Accept-Encoding": "identity"}
_PASSING_STATUSES = frozenset({408, 429, 500, 502, 503, 504})


class _Interrupted(Exception):
    """This attempt ended early, and another one may go further."""


def download(
    url: str,
    target: Path,
    *,
    max_bytes: int,
    size_bytes: int | None = None,
    on_bytes: OnBytes | None = None,
    patience: Patience = DEFAULT_PATIENCE,
) -> None:
    """Download a file, or the rest of it; redirects are followed.

    Its bytes are added to those that an earlier call left at `target`, and stay there when this one fails. A file whose
    size is not known starts anew at every call. More than `max_bytes` is refused. `on_bytes` is called for every piece.

    Raises:
        DataError: The server cannot be reached, refuses, offers another size, or keeps breaking off.
        StorageError: The target cannot be written.
    """
    reason = ""
    try:
        if size_bytes is None:
            target.unlink(missing_ok=True)
        with open_client(url, timeout_s=patience.timeout_s, headers=_HEADERS, follow_redirects=True) as client:
            for attempt in range(patience.attempts):
                if attempt:
                    time.sleep(patience.first_pause_s * 2 ** (attempt - 1))
                try:
                    return _continue(client, url, target, max_bytes, size_bytes, on_bytes, patience)
                except _Interrupted as interruption:
                    reason = str(interruption)
                except httpx.TransportError as error:
                    if not attempt:
                        raise
                    reason = _said(error)
    except (httpx.HTTPError, httpx.InvalidURL, ConfigError, ValueError) as error:
        raise DataError(f"{url}: cannot be reached{way_to(url)}: {_said(error)}") from error
    except OSError as error:
        raise StorageError(f"{target}: cannot be written: {error.strerror}") from error
    raise DataError(f"{url}: the download broke off {patience.attempts} times, at last: {reason}")


def _continue(
    client: httpx.Client,
    url: str,
    target: Path,
    max_bytes: int,
    size_bytes: int | None,
    on_bytes: OnBytes | None,
    patience: Patience,
) -> None:
    done_bytes = target.stat().st_size if target.exists() else 0
    if done_bytes == size_bytes:
        return
    with client.stream("GET", url, headers={"Range": f"bytes={done_bytes}-"} if done_bytes else None) as response:
        first_byte = done_bytes = _first_byte(response, url, target, done_bytes)
        length = response.headers.get("Content-Length", "")
        offered_bytes = done_bytes + int(length) if length.isdigit() else size_bytes
        if size_bytes not in (None, offered_bytes) or (offered_bytes or 0) > max_bytes:
            raise DataError(
                f"{url}: the server offers {offered_bytes} bytes, expected"
                f" {size_bytes or f'at most {max_bytes}'}; the file there is another one now"
            )
        started_s = time.monotonic()
        with target.open("ab" if done_bytes else "wb") as file:
            try:
                for chunk in response.iter_raw():
                    done_bytes += len(chunk)
                    if done_bytes > max_bytes:
                        raise DataError(f"{url}: sends more than {max_bytes} bytes; it is another file")
                    file.write(chunk)
                    if on_bytes:
                        on_bytes(done_bytes, offered_bytes or 0)
                    elapsed_s = time.monotonic() - started_s
                    rate = (done_bytes - first_byte) / elapsed_s if elapsed_s > patience.timeout_s else math.inf
                    if rate < patience.min_bytes_per_s:
                        raise _Interrupted(f"less than {patience.min_bytes_per_s:g} bytes a second came")
            except httpx.TransportError as error:
                whole = "" if offered_bytes is None else f" of {offered_bytes}"
                raise _Interrupted(f"the connection was cut after {done_bytes}{whole} bytes: {_said(error)}") from error
    if offered_bytes is not None and done_bytes != offered_bytes:
        raise _Interrupted(f"the server ended after {done_bytes} of {offered_bytes} bytes")


def _first_byte(response: httpx.Response, url: str, target: Path, done_bytes: int) -> int:
    """Return the byte of the file that the answer starts with."""
    said = f"the server answered {response.status_code} {response.reason_phrase}"
    if response.status_code in _PASSING_STATUSES:
        raise _Interrupted(said)
    if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE and done_bytes:
        target.unlink()
        raise _Interrupted("the server's file is shorter than what was there")
    if not response.is_success:
        raise DataError(f"{url}: {said}")
    if response.status_code != httpx.codes.PARTIAL_CONTENT:
        return 0
    if not response.headers.get("Content-Range", "").startswith(f"bytes {done_bytes}-"):
        target.unlink()
        raise _Interrupted("the server sent another part of the file")
    return done_bytes


def _said(error: Exception) -> str:
    return str(error) or type(error).__name__
