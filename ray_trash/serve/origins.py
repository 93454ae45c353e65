"""Which pages of other origins may ask from a browser (CORS)."""

from __future__ import annotations

from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from ray_trash.serve.admission import problem
from ray_trash.serve.contract import ServeError

_METHODS = ("GET", "POST")
_HEADERS = ("Authorization", "Content-Type", "X-API-Key", "X-File-Name")
"""What such a page may send. The header of a rollback is not among it."""


class Origins(CORSMiddleware):
    """Lets browsers hand answers to the pages of some origins; `*` is every one.

    Cookies and the like are never asked for: a page sends the key itself.
    """

    def __init__(self, app: ASGIApp, allowed: Collection[str]) -> None:
        """Stand in front of an application."""
        super().__init__(
            app,
            allowed,
            allow_methods=_METHODS,
            allow_headers=_HEADERS,
            expose_headers=("Retry-After",),
            allow_private_network=True,  # whoever names an origin means it, in a network of one's own too
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """Answer a browser that asks for a page whether it may; a refusal says why."""
        response = super().preflight_response(request_headers)
        if response.status_code == 200:
            told = {name: value for name, value in response.headers.items() if not name.startswith("content-")}
            return Response(status_code=204, headers=told)
        why = f"pages of other origins may send {' and '.join(_METHODS)} with the headers {', '.join(_HEADERS)}"
        if not self.is_allowed_origin(origin := request_headers["origin"]):
            why = f"pages of {origin[:200]} may not ask here; whoever runs this can name that in serve.cors_origins"
        return problem(ServeError(403, "cross_origin", why))
