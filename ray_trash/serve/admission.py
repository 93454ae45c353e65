"""An ASGI application around another that lets requests in: those with the key, and within the limits.

The limits of size and number are checked against the headers, then against each piece of the body as it comes. A
refusal is JSON; what a client sends after it, the server throws away.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable, Mapping

from pydantic import BaseModel
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ray_trash.config import ServeConfig
from ray_trash.serve.contract import ServeError

PROTECTED = ("/v1/", "/metrics")
"""Where the key is asked for; the rest tells nothing about photos or models."""
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}
_MIB = 1 << 20


class Admission:
    """Lets requests in, and counts what they hold."""

    def __init__(
        self, app: ASGIApp, settings: ServeConfig, *, api_key: str | None, turned_away: Callable[[str], None]
    ) -> None:
        """Stand in front of an application; `turned_away` hears the code of every refusal."""
        self._app, self._settings, self._turned_away = app, settings, turned_away
        self._api_key = None if api_key is None else api_key.encode()
        self._max_body_bytes = int(settings.max_body_mib * _MIB)
        self._waiting = _Waiting(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                message["headers"] = list(message["headers"]) + [
                    (name.lower().encode(), value.encode())
                    for name, value in SECURITY_HEADERS.items()
                    if name.lower().encode() not in present
                ]
            await send(message)

        try:
            await self._admit(scope, receive, send_safely)
        except ServeError as error:
            self._turned_away(error.code)
            await problem(error)(scope, receive, send_safely)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        if self._api_key is not None and _path_in_application(scope).startswith(PROTECTED):
            self._require_key(headers)
        if scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        size = self._announced_bytes(headers)
        self._waiting.require_room(size)
        body = _LimitedBody(receive, self._waiting, self._max_body_bytes, self._settings.body_timeout_s)
        try:
            await self._app(scope, body.receive, send)
        finally:
            body.give_back()

    def _require_key(self, headers: dict[bytes, bytes]) -> None:
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        given = token.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key", b"")
        assert self._api_key is not None
        if not hmac.compare_digest(given, self._api_key):
            raise ServeError(401, "unauthorized", "send the key as `Authorization: Bearer KEY`")

    def _announced_bytes(self, headers: dict[bytes, bytes]) -> int:
        text = headers.get(b"content-length")
        if text is None:
            return 0  # chunked: it is counted as it comes
        if b"transfer-encoding" in headers:
            raise ServeError(400, "bad_request", "a body has a length or comes in chunks, not both")
        size = int(text)  # h11 has refused what is no number
        if size > self._max_body_bytes:
            raise _too_large(self._max_body_bytes)
        return size


class _Waiting:
    """What all requests together hold: bytes from their arrival on, a place from the moment their body is whole.

    What is only announced holds nothing, so a client that sends nothing keeps nobody out.
    """

    def __init__(self, settings: ServeConfig) -> None:
        self._settings = settings
        self._max_bytes = int(settings.max_waiting_mib * _MIB)
        self.requests = self.bytes = 0

    def require_room(self, n_bytes: int) -> None:
        if self.requests >= self._settings.max_waiting_requests:
            raise self._busy("requests")
        if self.bytes + n_bytes > self._max_bytes:
            raise self._busy("bytes")

    def _busy(self, what: str) -> ServeError:
        return ServeError(
            503, "busy", f"too many {what} are waiting; come again", retry_after_s=self._settings.retry_after_s
        )


class _LimitedBody:
    """A body that is neither longer nor slower than is allowed, and counted among those that wait."""

    def __init__(
        self, receive: Callable[[], Awaitable[Message]], waiting: _Waiting, max_bytes: int, timeout_s: float
    ) -> None:
        self._receive, self._waiting, self._max_bytes = receive, waiting, max_bytes
        self._timeout_s = timeout_s
        self._deadline_s = time.monotonic() + timeout_s
        self._held_bytes = 0
        self._whole = False

    async def receive(self) -> Message:
        if self._whole:
            return await self._receive()
        try:
            async with asyncio.timeout(max(0.0, self._deadline_s - time.monotonic())):
                message = await self._receive()
        except TimeoutError as error:
            raise ServeError(408, "slow_body", f"the body did not come within {self._timeout_s:g} s") from error
        if message["type"] == "http.request":
            n_bytes = len(message.get("body", b""))
            if self._held_bytes + n_bytes > self._max_bytes:
                raise _too_large(self._max_bytes)
            self._waiting.require_room(n_bytes)
            self._held_bytes += n_bytes
            self._waiting.bytes += n_bytes
            if not message.get("more_body", False):
                self._whole = True
                self._waiting.requests += 1
        return message

    def give_back(self) -> None:
        self._waiting.bytes -= self._held_bytes
        self._waiting.requests -= self._whole


def problem(error: ServeError) -> Response:
    """Render a request that is not answered."""
    headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if error.status == 408:
        headers["Connection"] = "close"  # the rest of the body is not worth waiting for
    return json_answer(error.body(), error.status, headers)


def json_answer(body: BaseModel, status: int, headers: Mapping[str, str] | None = None) -> Response:
    """Render a body of an answer other than 200, which FastAPI renders."""
    return Response(body.model_dump_json(), status, headers, media_type="application/json")


def _path_in_application(scope: Scope) -> str:
    # Behind a proxy that serves other things too, the path begins with the address of this one.
    path, root = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
    return path.removeprefix(root) if path.startswith(f"{root}/") else path


def _too_large(max_bytes: int) -> ServeError:
    return ServeError(413, "body_too_large", f"the body is longer than {max_bytes / _MIB:g} MiB")
