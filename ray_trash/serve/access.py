"""An ASGI application around another that gives every request an id, and writes a line about it once it is over."""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ray_trash.serve.log import tell

REQUEST_ID_HEADER = "X-Request-ID"
_GIVEN_ID = re.compile(r"[\w.:/+=@-]{1,128}", re.ASCII)
"""Ids that are taken from a client or a proxy; another one, which might be anything, gets a new one in its place."""
_PROBES = ("healthz", "readyz", "metrics")
"""Asked every few seconds by machines: a line only where the answer is none."""
_LONGEST_PATH = 200


@dataclass
class Visit:
    """One request, and what whoever answers it adds to its line: photos, and the id of the model."""

    request_id: str
    n_photos: int = 0
    model: str | None = None


_VISIT: ContextVar[Visit] = ContextVar("visit")


def this_visit() -> Visit:
    """Return the request that is being answered; outside of any, a new one."""
    return _VISIT.get(None) or Visit(secrets.token_hex(8))


def visit_of(scope: Scope) -> Visit:
    """Begin the visit of a request, with the id that it brings where that is one."""
    given = Headers(scope=scope).get(REQUEST_ID_HEADER, "")
    return Visit(given if _GIVEN_ID.fullmatch(given) else secrets.token_hex(8))


@contextmanager
def during(visit: Visit) -> Iterator[None]:
    """Make it `this_visit` inside the block."""
    before = _VISIT.set(visit)
    try:
        yield
    finally:
        _VISIT.reset(before)


class AccessLog:
    """Stands in front of an application: its answers have the header `X-Request-ID`."""

    def __init__(self, app: ASGIApp, *, sends_id: bool) -> None:
        """Stand in front of an application; Ray's own proxy sends the id itself."""
        self._app, self._sends_id = app, sends_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have one request answered."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        visit, status = visit_of(scope), 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if self._sends_id:
                    MutableHeaders(scope=message)[REQUEST_ID_HEADER] = visit.request_id
            await send(message)

        started = time.perf_counter()
        try:
            with during(visit):
                await self._app(scope, receive, send_with_id)
        finally:
            _write_line(scope, status, visit, 1000 * (time.perf_counter() - started))


def _write_line(scope: Scope, status: int, visit: Visit, milliseconds: float) -> None:
    # As it was sent: what is unquoted may hold line breaks.
    path = (scope.get("raw_path") or b"").decode("latin-1")[:_LONGEST_PATH]
    if status == 200 and path.rstrip("/").rpartition("/")[2] in _PROBES:
        return
    photos = f", {visit.n_photos} photos" if visit.n_photos else ""
    model = f", by {visit.model}" if visit.model else ""
    answer = status or "cut off"
    tell(
        "request",
        f"{scope['method']} {path} {answer}{photos}, {milliseconds:.0f} ms{model}, request {visit.request_id}",
        level=logging.INFO if 0 < status < 500 else logging.WARNING,
        method=scope["method"],
        path=path,
        status=status or None,
        photos=visit.n_photos,
        milliseconds=round(milliseconds, 1),
        request_id=visit.request_id,
        model=visit.model,
    )
