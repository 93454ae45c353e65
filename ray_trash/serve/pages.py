"""What people open in a browser: the files of `web/` and Swagger UI in, routes out. Knows nothing of photos and models.

The pages are plain files that talk to the same HTTP interface as everybody else. The policy below lets them run no
script, style or request that is not from this server, whatever a file name or a label says.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import PurePath

from starlette.responses import Response
from starlette.routing import Route

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-cache",
}
"""Of every page and of all that belongs to it, beside those that `Admission` gives every answer."""

_PATHS = {"index.html": "/", "docs.html": "/docs"}
"""Of the pages; every other file has its own name as its path."""
_MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def page_routes() -> list[Route]:
    """Read the pages and make their routes, which answer GET and HEAD.

    They are for everybody: a page asks for the key and sends it with what it asks the interface.
    """
    found = [file for place in ("ray_trash.serve.web", "fastapi_swagger.resources") for file in files(place).iterdir()]
    routes = []
    for file in found:
        if media_type := _MEDIA_TYPES.get(PurePath(file.name).suffix):
            answer = Response(file.read_bytes(), media_type=media_type, headers=HEADERS)
            routes.append(Route(_PATHS.get(file.name, f"/{file.name}"), answer, methods=["GET"]))
    return routes
