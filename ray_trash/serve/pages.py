"""What people open in a browser: the files of `web/` and Swagger UI in, routes out. Knows nothing of photos and models.

The pages are plain files that talk to the same HTTP interface as everybody else. The policy below lets them run no
script, style or request that is not from this server, whatever a file name or a label says.
"""

from __future__ import annotations

import html
from functools import partial
from importlib.resources import files
from pathlib import PurePath
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'self'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-cache",
}
"""Of every page and of all that belongs to it, beside those that `Admission` gives every answer."""

_PATHS = {"index.html": ("/",), "docs.html": ("/docs",), "icon.svg": ("/icon.svg", "/favicon.ico")}
"""Of the pages and their icon; every other file has its own name as its path."""
_MEDIA_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
}


def page_routes() -> list[Route]:
    """Read the pages and make their routes, which answer GET and HEAD.

    They are for everybody: a page asks for the key and sends it with what it asks the interface.
    """
    found = [file for place in ("ray_trash.serve.web", "fastapi_swagger.resources") for file in files(place).iterdir()]
    routes: list[Route] = []
    for file in found:
        if media_type := _MEDIA_TYPES.get(PurePath(file.name).suffix):
            content = file.read_bytes()
            answer: Any = Response(content, media_type=media_type, headers=HEADERS)
            if media_type == "text/html":
                answer = partial(_answer_page, content)
            paths = _PATHS.get(file.name, (f"/{file.name}",))
            routes += [Route(path, answer, methods=["GET"]) for path in paths]
    return routes


async def _answer_page(page: bytes, request: Request) -> Response:
    # Its addresses are relative, and mean the same whether or not its own ends with a slash. Where nobody says below
    # which path a proxy offers it, the path that was asked for is all there is to go by.
    root, asked = request.scope.get("root_path", ""), request.scope.get("raw_path", b"/")
    base = f"{root}/" if root else "./" + "../" * (asked.count(b"/") - 1)
    page = page.replace(b"<head>", f'<head>\n  <base href="{html.escape(base)}">'.encode(), 1)
    return Response(page, media_type="text/html", headers=HEADERS)
