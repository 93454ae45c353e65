"""Addresses, methods and origins: as clients, proxies and browsers have them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import httpx
import pytest

from ray_trash.config import ServeConfig, serve_config
from ray_trash.errors import ConfigError
from ray_trash.serve.gateway import Gateway
from ray_trash.serve.key import Keys
from tests.unit.serve.asking import JPEG, code_of, talk
from tests.unit.serve.backends import GOOD, FakeBackend

ORIGIN = "https://app.example.org"


def ask(backend: FakeBackend, *requests: dict[str, Any], **given: Any) -> list[httpx.Response]:
    async def all_of_them(client: httpx.AsyncClient) -> list[httpx.Response]:
        return [await client.request(**{**each, "url": f"http://127.0.0.1:8000{each['url']}"}) for each in requests]

    answers: list[httpx.Response] = talk(backend, all_of_them, **given)
    return answers


def get(*paths: str, **headers: str) -> list[dict[str, Any]]:
    return [{"method": "GET", "url": path, "headers": headers} for path in paths]


def score(path: str = "/v1/score", **headers: str) -> dict[str, Any]:
    return {"method": "POST", "url": path, "content": GOOD, "headers": {**JPEG, **headers}}


def preflight(
    origin: str = ORIGIN, headers: str = "authorization,content-type", method: str = "POST"
) -> dict[str, Any]:
    asked = {"origin": origin, "access-control-request-method": method, "access-control-request-headers": headers}
    return {"method": "OPTIONS", "url": "/v1/score", "headers": asked}


def test_head_is_get_without_the_body(backend: FakeBackend):
    paths = ("/", "/docs", "/page.css", "/openapi.json", "/v1/model", "/healthz", "/readyz", "/metrics", "/nowhere")
    heads = [{**request, "method": "HEAD"} for request in get(*paths)]
    for got, head in zip(ask(backend, *get(*paths)), ask(backend, *heads), strict=True):
        assert head.status_code == got.status_code
        assert head.content == b""
        told = {name: got.headers[name] for name in got.headers.keys() - {"content-length", "x-request-id"}}
        assert {name: head.headers[name] for name in told} == told
        assert int(head.headers["content-length"]) > 0


@pytest.mark.parametrize("path", ["/v1/score/", "//v1/score", "/v1//score", "/%76%31/score", "/v1/score?a=b"])
def test_a_body_arrives_however_its_address_is_spelled(backend: FakeBackend, path: str):
    (answer,) = ask(backend, score(path))
    assert (answer.status_code, backend.asked) == (200, [[GOOD]])


def test_the_key_is_asked_for_however_the_address_is_spelled(backend: FakeBackend):
    paths = ("/v1/model", "/v1/model/", "//v1/model", "/trash/v1/model", "//trash//v1//model/", "//metrics")
    answers = ask(backend, *get(*paths), api_key="secret", root_path="/trash")
    assert [answer.status_code for answer in answers] == [401] * len(paths)


def test_an_address_or_method_that_is_not_there_is_told_in_json_with_what_is(backend: FakeBackend):
    *nowhere, get_score, put, trace, post, delete = ask(
        backend,
        *get("/nowhere", "/v1", "/http://x/v1/model"),
        *({"method": method, "url": "/v1/score"} for method in ("GET", "PUT", "TRACE")),
        {"method": "POST", "url": "/healthz"},
        {"method": "DELETE", "url": "/docs"},
    )
    assert [(answer.status_code, code_of(answer)) for answer in nowhere] == [(404, "not_found")] * 3
    others = (get_score, put, trace, post, delete)
    for answer in others:
        assert (answer.status_code, code_of(answer)) == (405, "method_not_allowed")
    assert [answer.headers["allow"] for answer in others] == ["POST"] * 3 + ["GET, HEAD"] * 2


def test_what_an_address_takes_can_be_asked(backend: FakeBackend):
    paths = ("/v1/score", "/v1/model/rollback", "/docs/", "/nowhere")
    *there, nowhere = ask(backend, *({"method": "OPTIONS", "url": path} for path in paths), operator_key="of-operators")
    score_, rollback, docs = there
    assert [answer.status_code for answer in there] == [204, 401, 204]
    assert (score_.headers["allow"], docs.headers["allow"]) == ("POST, OPTIONS", "GET, HEAD, OPTIONS")
    assert (nowhere.status_code, code_of(nowhere)) == (404, "not_found")
    assert rollback.headers["www-authenticate"] == "Bearer"


def test_browsers_and_robots_find_what_they_look_for_unasked(backend: FakeBackend):
    icon, robots = ask(backend, *get("/favicon.ico", "/robots.txt"))
    assert icon.headers["content-type"] == "image/svg+xml"
    assert robots.text == "User-agent: *\nDisallow: /\n"


@pytest.mark.parametrize("prefix", ["", "/trash"], ids=["stripped", "left"])
def test_behind_a_proxy_with_a_prefix_everything_is_found_and_said_with_it(backend: FakeBackend, prefix: str):
    paths = [prefix + path for path in ("/openapi.json", "/docs/", "/", "/page.css", "/v1/model")]
    described, *others = ask(backend, *get(*paths, *([prefix] if prefix else [])), root_path="/trash/")
    assert described.json()["servers"] == [{"url": "/trash"}]
    assert {answer.status_code for answer in others} == {200}
    for page in (others[0], others[1], *others[4:]):
        assert '<base href="/trash/">' in page.text
    (answer,) = ask(backend, score(f"{prefix}/v1/score"), root_path="/trash")
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("path", "base"), [("/", "./"), ("/docs", "./"), ("/docs/", "./../"), ("//docs//", "./../../../")]
)
def test_a_page_s_addresses_are_right_where_nobody_says_below_which_path_it_is(
    backend: FakeBackend, path: str, base: str
):
    (page,) = ask(backend, *get(path))
    assert f'<base href="{base}">' in page.text


def test_below_the_prefix_of_ray_serve_everything_is_found(backend: FakeBackend):
    async def run(paths: Iterable[str]) -> list[httpx.Response]:
        application = Gateway(backend, ServeConfig(), keys=Keys()).application()
        transport = httpx.ASGITransport(application, root_path="/trash")
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            return [await client.get(path) for path in paths]

    answers = asyncio.run(run(("/trash", "/trash/", "/trash/v1/model/")))
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert '<base href="/trash/">' in answers[0].text


def test_a_page_of_an_origin_that_is_not_named_is_told_so_and_reads_nothing(backend: FakeBackend):
    for settings in ({}, {"cors_origins": ("https://other.example.org",)}):
        refused, answer = ask(backend, preflight(), score(origin=ORIGIN), **settings)
        assert (refused.status_code, code_of(refused)) == (403, "cross_origin")
        assert ORIGIN in refused.json()["error"]["message"]
        assert "serve.cors_origins" in refused.json()["error"]["message"]
        for each in (refused, answer):
            assert "access-control-allow-origin" not in each.headers


@pytest.mark.parametrize(("named", "told"), [((ORIGIN,), ORIGIN), (("*",), "*")])
def test_a_page_of_an_origin_that_is_named_may_ask_and_read_refusals_too(
    backend: FakeBackend, named: tuple[str, ...], told: str
):
    allowed, refused, answer = ask(
        backend,
        preflight(),
        score(origin=ORIGIN),
        score(origin=ORIGIN, authorization="Bearer secret"),
        api_key="secret",
        cors_origins=named,
    )
    assert [each.status_code for each in (allowed, refused, answer)] == [204, 401, 200]
    for each in (allowed, refused, answer):
        assert each.headers["access-control-allow-origin"] == told
        assert "access-control-allow-credentials" not in each.headers
    assert answer.headers["access-control-expose-headers"] == "Retry-After"
    assert "Origin" in answer.headers["vary"]


def test_no_page_of_another_origin_may_roll_back(backend: FakeBackend):
    for request in (preflight(headers="x-ray-trash"), preflight(method="DELETE")):
        (refused,) = ask(backend, request, cors_origins=("*",))
        assert (refused.status_code, code_of(refused)) == (403, "cross_origin")
        assert "GET and POST" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("root_path", "trash"),
        ("root_path", "/a b"),
        ("root_path", "/v1/trash"),
        ("root_path", "https://example.org/trash"),
        ("cors_origins", ["app.example.org"]),
        ("cors_origins", ["https://app.example.org/"]),
        ("cors_origins", ["https://App.example.org"]),
        ("cors_origins", ["null"]),
        ("cors_origins", "https://app.example.org"),
        ("keep_alive_s", 0),
    ],
)
def test_an_address_that_is_none_is_refused_by_the_name_of_its_key(key: str, value: Any):
    with pytest.raises(ConfigError, match=rf"serve\.{key}[:=]"):
        serve_config({}, {f"serve.{key}": value})
