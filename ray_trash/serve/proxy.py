"""What stands inside Ray's own HTTP proxy, which reads bodies whole and answers some requests itself.

Ray takes `middlewares` from a variable of the machines it is started on, before any application is there:
`RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=ray_trash.serve.proxy:middlewares`.
"""

from __future__ import annotations

import logging
import os

from ray.serve._private.constants import (
    SERVE_HTTP_REQUEST_DISCONNECT_DISABLED_HEADER,
    SERVE_HTTP_REQUEST_TIMEOUT_S_HEADER,
    SERVE_MULTIPLEXED_MODEL_ID,
    SERVE_SESSION_ID,
)
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ray_trash.config import ServeConfig, parse_override, serve_config
from ray_trash.serve.access import REQUEST_ID_HEADER, during, this_visit, visit_of
from ray_trash.serve.admission import Admission
from ray_trash.serve.contract import ServeError, come_again
from ray_trash.serve.log import start_log, tell

VARIABLE = "RAY_TRASH_PROXY"
"""Variable with keys of the `serve` section, such as `serve.max_body_mib=64 serve.body_timeout_s=20`."""
MAX_OTHER_BODY_BYTES = 64 * 1024
"""Of a request that is no POST, and so has no photos."""
ROUTES = "/-/routes"
"""Where Ray tells which applications there are."""
_ORDERS = {
    name.lower().replace("_", "-")
    for name in (
        SERVE_HTTP_REQUEST_DISCONNECT_DISABLED_HEADER,
        SERVE_HTTP_REQUEST_TIMEOUT_S_HEADER,
        SERVE_MULTIPLEXED_MODEL_ID,
        SERVE_SESSION_ID,
    )
}
"""Headers by which Ray lets any client change limits, or choose a replica."""


def middlewares() -> list[Middleware]:
    """Build what Ray puts in front of its proxy.

    Raises:
        ConfigError: The variable `RAY_TRASH_PROXY` names a key that there is not, or a value out of range.
    """
    settings = serve_config({}, dict(map(parse_override, os.environ.get(VARIABLE, "").split())))
    start_log(settings.log_format)
    return [Middleware(Bounded, settings)]


class Bounded:
    """Bounds bodies as a gateway does, before Ray holds them, and says as JSON what Ray says in plain text.

    Of other applications of the same Ray Serve it bounds the bodies and words the plain errors too.
    """

    def __init__(self, app: ASGIApp, settings: ServeConfig) -> None:
        """Stand in front of Ray's proxy."""
        self._proxy, self._settings = app, settings
        self._admission = Admission(self._relay, settings, keys=None, turned_away=_tell_turned_away)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it."""
        if scope["type"] != "http":
            await self._proxy(scope, receive, send)
            return
        visit = visit_of(scope)
        kept = [
            (name, value)
            for name, value in scope["headers"]
            if name.decode("latin-1").replace("_", "-") not in {*_ORDERS, REQUEST_ID_HEADER.lower()}
        ]
        kept.append((REQUEST_ID_HEADER.lower().encode(), visit.request_id.encode()))

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).setdefault(REQUEST_ID_HEADER, visit.request_id)
            await send(message)

        with during(visit):
            await self._admission({**scope, "headers": kept}, receive, send_with_id)

    async def _relay(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have Ray answer; raises a `ServeError` where the answer is none of an application."""
        if scope["path"].rstrip("/").endswith(ROUTES):
            raise ServeError(404, "not_found", "there is nothing at this address")
        refused: ServeError | None = None
        started = hung_up = False
        n_bytes = 0

        async def receive_bounded() -> Message:
            nonlocal refused, hung_up, n_bytes
            try:
                message = await receive()
                n_bytes += len(message.get("body", b""))
                if scope["method"] != "POST" and n_bytes > MAX_OTHER_BODY_BYTES:
                    raise ServeError(413, "body_too_large", "no body is expected here")
            except ServeError as error:
                refused = error
                message = {"type": "http.disconnect"}  # which has Ray give up the request
            hung_up = hung_up or message["type"] == "http.disconnect"
            return message

        async def send_ours(message: Message) -> None:
            nonlocal refused, started
            if message["type"] == "http.response.start":
                refused = refused or self._in_our_words(scope, message)
                started = refused is None
            if started:
                await send(message)

        try:
            await self._proxy(scope, receive_bounded, send_ours)
        except Exception as error:
            if started:
                raise
            tell(
                "unforeseen", "Ray's proxy failed", level=logging.ERROR, error=error, request_id=this_visit().request_id
            )
            refused = refused or ServeError(500, "internal", "something went wrong here; the endpoint's log says what")
        if refused is None and not started and not hung_up:
            # So Ray ends a request whose gateway died, or whose application raised: another may answer it.
            refused = come_again(
                "replica_failed", "who was asked failed before it answered", self._settings.retry_after_s
            )
        if refused is not None and not started:
            raise refused

    def _in_our_words(self, scope: Scope, message: Message) -> ServeError | None:
        status: int = message["status"]
        content_type = Headers(scope=message).get("content-type", "")
        if status < 400 or not content_type.startswith("text/plain") or "/-/healthz" in scope["path"]:
            return None
        if status == 404:
            return ServeError(404, "not_found", "there is nothing at this address")
        if status == 408:
            # So Ray calls an answer that is late; a body that is late has been refused before.
            return ServeError(504, "timeout", "there was no answer in time")
        if status in (429, 503):
            return come_again("busy", "nobody can answer now", self._settings.retry_after_s)
        return ServeError(status, "internal", "something went wrong here; the endpoint's log says what")


def _tell_turned_away(code: str) -> None:
    tell("turned_away", f"not handed on: {code}", request_id=this_visit().request_id, code=code)
