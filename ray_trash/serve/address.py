"""An ASGI application around another that reads addresses as clients and proxies spell them.

`/v1/score/`, `//v1/score` and `http://host/v1/score` are `/v1/score`; `HEAD` is `GET` without the body.
"""

from __future__ import annotations

import re

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_AUTHORITY = re.compile(r"^https?://[^/]*", re.IGNORECASE)
"""What comes before the path where a client asks as it would ask a proxy. Source: RFC 9112, 3.2.2."""


class Addressed:
    """Hands on what is asked below `root_path`, which a proxy may have stripped."""

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        """Stand in front of an application."""
        self._app, self._root_path = app, root_path.rstrip("/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            root = self._root_path + str(scope.get("root_path", "")).rstrip("/")
            scope = {**scope, "root_path": root, "path": root + self._below(scope)}
            if scope["method"] == "HEAD":
                scope["method"], send = "GET", _without_body(send)
        await self._app(scope, receive, send)

    def _below(self, scope: Scope) -> str:
        # Redirecting instead would cost bodies, and names a host and scheme that proxies may have changed.
        path = "/" + _AUTHORITY.sub("", str(scope["path"]))
        path = re.sub("/+", "/", path).rstrip("/")
        for root in (str(scope.get("root_path", "")).rstrip("/"), self._root_path):
            if f"{path}/".startswith(f"{root}/"):
                path = path.removeprefix(root)
        return path or "/"


def _without_body(send: Send) -> Send:
    async def send_headers(message: Message) -> None:
        await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

    return send_headers
