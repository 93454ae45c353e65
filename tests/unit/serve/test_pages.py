"""The files of the pages and how they are sent; what they do is tested in a browser."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import get_args

import anyio
import httpx
import pytest
from starlette.applications import Starlette

from ray_trash.errors import ReasonCode
from ray_trash.serve.pages import HEADERS, page_routes

WEB = files("ray_trash.serve").joinpath("web")
# Of the Markdown only the description of the interface is made, which has addresses to try.
FILES = {file.name: file.read_text("utf-8") for file in WEB.iterdir() if not file.name.endswith(".md")}
PAGES = [name for name in FILES if name.endswith(".html")]
SCRIPTS = [name for name in FILES if name.endswith(".js")]
OUTSIDE = re.compile(r"""https?://|["'(=\s]//[a-z]""", re.IGNORECASE)
SVG_NAMESPACE = "http://www.w3.org/2000/svg"


def answer(method: str, path: str) -> httpx.Response:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(Starlette(routes=page_routes()))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path)

    return anyio.run(ask)


@pytest.mark.parametrize("name", FILES)
def test_nothing_points_outside(name: str) -> None:
    assert OUTSIDE.findall(FILES[name].replace(SVG_NAMESPACE, "")) == []


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_no_inline_script_or_style(name: str) -> None:
    page = FILES[name]
    assert re.findall(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=|javascript:", page, re.IGNORECASE) == []
    assert "<script" in page


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_makes_no_markup_and_no_code_of_text(name: str) -> None:
    banned = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser"
    assert re.findall(banned, FILES[name]) == []


@pytest.mark.parametrize("name", PAGES)
def test_every_element_a_script_asks_for_by_id_is_on_its_page(name: str) -> None:
    script = {"index.html": "page.js", "docs.html": "docs.js"}[name]
    asked = set(re.findall(r'element\("([\w-]+)"\)', FILES[script]))
    asked |= set(re.findall(r'getElementById\("([\w-]+)"\)', FILES[script]))
    assert asked <= set(re.findall(r'\sid="([\w-]+)"', FILES[name]))


def test_every_reason_code_has_words() -> None:
    for code in get_args(ReasonCode):
        assert re.search(rf"^  {code}: ", FILES["words.js"], re.MULTILINE), code


@pytest.mark.parametrize(
    ("path", "media_type"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/docs", "text/html; charset=utf-8"),
        ("/page.css", "text/css; charset=utf-8"),
        ("/swagger-ui.css", "text/css; charset=utf-8"),
        ("/swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
        *((f"/{name}", "text/javascript; charset=utf-8") for name in SCRIPTS),
        ("/icon.svg", "image/svg+xml"),
    ],
)
def test_a_file_is_sent_with_its_type_and_the_policy(path: str, media_type: str) -> None:
    got, head = answer("GET", path), answer("HEAD", path)
    assert got.status_code == head.status_code == 200
    assert got.headers["content-type"] == media_type
    for name, value in HEADERS.items():
        assert got.headers[name] == head.headers[name] == value
    assert got.content
    assert head.content == b""


def test_the_policy_lets_nothing_in_that_is_inline_or_from_elsewhere() -> None:
    policy = dict(part.strip().split(" ", 1) for part in HEADERS["Content-Security-Policy"].split(";"))
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' blob: data:",
        "connect-src": "'self'",
        "base-uri": "'self'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }


def test_a_file_that_is_no_page_is_not_there() -> None:
    assert answer("GET", "/nothing.js").status_code == 404
    assert answer("GET", "/index.html").status_code == 404
    assert answer("POST", "/").status_code == 405
