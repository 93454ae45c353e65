"""What the gateway makes of a request, with a backend that computes nothing."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import httpx
import pytest

from ray_trash.config import ServeConfig
from ray_trash.serve.contract import ServeError
from ray_trash.serve.gateway import Gateway
from ray_trash.serve.key import Keys
from tests.unit.serve.asking import JPEG, code_of, encoded, files, post, talk
from tests.unit.serve.backends import BAD, GOOD, MAP, UNSURE


def test_a_batch_is_answered_in_order_and_a_bad_photo_costs_only_itself(backend):
    for request in ({"files": files(GOOD, BAD, UNSURE)}, {"json": encoded(GOOD, BAD, UNSURE)}):
        response = post(backend, **request)
        assert response.status_code == 200
        body = response.json()
        assert body["model"] == {"id": "0123456789ab", "classes": ["glass", "paper", "metal"]}
        good, bad, unsure = body["results"]
        assert (good["status"], good["label"], good["abstained"]) == ("ok", "glass", False)
        assert good["confidence"] == pytest.approx(0.9)
        assert list(good["probabilities"]) == ["glass", "paper", "metal"]
        assert bad == {
            "name": bad["name"],
            "status": "error",
            "error": {"code": "truncated", "message": "it ends early"},
        }
        assert (unsure["label"], unsure["abstained"]) == ("metal", True)
        assert [result["name"][0] for result in body["results"]] == ["0", "1", "2"]


PLAIN: dict[str, Any] = {}
EXPLAIN: dict[str, Any] = {"params": {"explain": "true"}}


@pytest.mark.parametrize("request_", [{"files": files(GOOD, BAD, UNSURE)}, {"json": encoded(GOOD, BAD, UNSURE)}])
def test_maps_come_with_the_answers_where_they_are_on_and_asked_for(backend, request_):
    plain, off, on = (
        post(backend, settings={"explain": True}, **request_, **query)
        for query in (PLAIN, {"params": {"explain": "false"}}, EXPLAIN)
    )
    assert backend.explained == [False, False, True]
    assert plain.content == off.content == post(backend, **request_).content
    good, bad, unsure = on.json()["results"]
    assert base64.b64decode(good.pop("map_png")) == base64.b64decode(unsure.pop("map_png")) == MAP
    assert [good, bad, unsure] == plain.json()["results"]


@pytest.mark.parametrize(
    ("settings", "asked", "code"),
    [({}, "true", "explain_off"), ({"explain": True}, "maybe", "bad_request"), ({}, "1", "bad_request")],
)
def test_maps_that_are_off_and_questions_that_are_none_are_refused_unread(backend, settings, asked, code):
    response = post(backend, settings=settings, params={"explain": asked}, content=GOOD, headers=JPEG)
    assert (response.status_code, code_of(response)) == (400, code)
    assert backend.asked == []


def test_the_model_says_whether_it_draws_maps_and_over_how_many_views_it_answers(backend):
    async def model(client: httpx.AsyncClient) -> dict:
        return (await client.get("/v1/model")).json()

    off, on = talk(backend, model), talk(backend, model, explain=True)
    assert (off["explain"], on["explain"]) == (False, True)
    assert (on["views"], on["calibrated_views"]) == (1, 1)


def test_a_raw_photo_is_answered_and_a_bad_one_is_422(backend):
    good = post(backend, content=GOOD, headers=JPEG)
    assert (good.status_code, good.json()["results"][0]["label"]) == (200, "glass")
    bad = post(backend, content=BAD, headers=JPEG)
    assert bad.status_code == 422
    assert bad.json()["error"]["code"] == bad.json()["results"][0]["error"]["code"] == "truncated"


def test_a_batch_of_nothing_but_bad_photos_is_still_200(backend):
    response = post(backend, files=files(BAD, BAD))
    assert response.status_code == 200
    assert [result["status"] for result in response.json()["results"]] == ["error", "error"]


def test_what_is_no_base64_is_an_error_of_that_photo(backend):
    response = post(backend, json={"images": [{"data": "?"}, *encoded(GOOD)["images"]]})
    assert [result["status"] for result in response.json()["results"]] == ["error", "ok"]
    assert response.json()["results"][0]["error"]["code"] == "undecodable"


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        ({"content": b"x", "headers": {"content-type": "text/plain"}}, 415, "unsupported_media_type"),
        ({"content": b"x", "headers": {"content-type": "image/svg+xml"}}, 415, "unsupported_media_type"),
        ({"content": b""}, 400, "no_images"),
        ({"content": b"x", "headers": {**JPEG, "content-encoding": "gzip"}}, 415, "unsupported_media_type"),
        ({"json": {"images": []}}, 400, "no_images"),
        ({"json": {"photos": []}}, 400, "bad_request"),
        ({"json": {"images": [{"name": 3, "data": ""}]}}, 400, "bad_request"),
        ({"json": {"images": [{"url": "http://127.0.0.1/"}]}}, 400, "bad_request"),
        ({"content": b"[" * 100_000, "headers": {"content-type": "application/json"}}, 400, "bad_request"),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 400, "bad_request"),
        ({"content": b"\xff", "headers": {"content-type": "application/json"}}, 400, "bad_request"),
        (
            {"content": b'{"images": [' + b"{}," * 60_000, "headers": {"content-type": "application/json"}},
            400,
            "bad_request",
        ),
        ({"files": [("photo", ("a.jpg", b"x", "image/jpeg"))]}, 400, "bad_request"),
        ({"data": {"images": "text"}, "files": []}, 415, "unsupported_media_type"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400, "bad_request"),
        (
            {"content": b"--x\r\n" * 9, "headers": {"content-type": "multipart/form-data; boundary=x"}},
            400,
            "bad_request",
        ),
        ({"files": files(*[b"x"] * 5)}, 413, "too_many_images"),
        ({"files": files(*[b"x"] * 5000)}, 413, "too_many_images"),
        ({"json": encoded(*[b"x"] * 5)}, 413, "too_many_images"),
        ({"content": b"x" * (1 << 20), "headers": JPEG}, 413, "body_too_large"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_request_that_cannot_be_answered_is_refused_with_a_reason(backend, request_, status, code):
    response = post(backend, settings={"max_batch_images": 4, "max_body_mib": 0.9}, **request_)
    assert (response.status_code, code_of(response)) == (status, code)
    assert backend.asked == []


def test_without_the_key_nothing_is_scored_and_the_page_still_opens(backend):
    for headers in (
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": "Basic secret"},
        {"x-api-key": "n\xf6".encode()},
    ):
        response = post(backend, api_key="secret", content=GOOD, headers={**JPEG, **headers})
        assert (response.status_code, code_of(response)) == (401, "unauthorized")
        assert response.headers["www-authenticate"] == "Bearer"
    assert backend.asked == []
    for headers in ({"authorization": "Bearer secret"}, {"x-api-key": "secret"}):
        assert post(backend, api_key="secret", content=GOOD, headers={**JPEG, **headers}).status_code == 200

    async def open_(client: httpx.AsyncClient) -> dict[str, int]:
        paths = ("/", "/docs", "/healthz", "/readyz", "/openapi.json", "/v1/model", "/metrics")
        return {path: (await client.get(path)).status_code for path in paths}

    statuses = talk(backend, open_, api_key="secret")
    assert {path for path, status in statuses.items() if status == 401} == {"/v1/model", "/metrics"}
    assert {status for path, status in statuses.items() if path not in ("/v1/model", "/metrics")} == {200}


def test_before_there_is_a_model_everything_but_the_pulse_says_come_again(backend):
    backend.ready = False

    async def ask(client: httpx.AsyncClient) -> list[httpx.Response]:
        return [await client.get(path) for path in ("/healthz", "/readyz", "/v1/model")]

    alive, ready, model = talk(backend, ask)
    assert alive.status_code == 200
    for response in (ready, model):
        assert (response.status_code, code_of(response)) == (503, "not_ready")
        assert response.headers["retry-after"] == "1"


def test_the_card_of_the_model_is_markdown_for_people(backend):
    async def ask(client: httpx.AsyncClient) -> list[httpx.Response]:
        return [await client.get("/v1/model/card") for backend.ready in (True, False)]

    found, early = talk(backend, ask)
    assert (found.status_code, found.text) == (200, "# a model | Müll")
    assert found.headers["content-type"] == "text/markdown; charset=utf-8"
    assert (early.status_code, code_of(early)) == (503, "not_ready")


def test_a_gateway_that_drains_is_not_ready_and_still_answers(backend):
    async def run() -> tuple[int, int]:
        gateway = Gateway(backend, ServeConfig(), keys=Keys())
        transport = httpx.ASGITransport(gateway.application())
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            gateway.draining = True
            ready = await client.get("/readyz")
            return ready.status_code, (await client.post("/v1/score", content=GOOD, headers=JPEG)).status_code

    assert asyncio.run(run()) == (503, 200)


def test_the_key_is_asked_for_below_a_prefix_too(backend):
    async def run() -> int:
        application = Gateway(backend, ServeConfig(), keys=Keys("secret")).application()
        transport = httpx.ASGITransport(application, root_path="/trash")
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            return (await client.post("/trash/v1/score", content=GOOD, headers=JPEG)).status_code

    assert asyncio.run(run()) == 401


def test_what_the_backend_cannot_do_is_said_with_its_status(backend):
    backend.problem = ServeError(504, "timeout", "there was no answer within 30 s")
    response = post(backend, content=GOOD, headers=JPEG)
    assert (response.status_code, code_of(response)) == (504, "timeout")


def test_an_unforeseen_error_tells_nothing_about_this_machine(backend):
    backend.problem = RuntimeError("/secret/place")
    response = post(backend, content=GOOD, headers=JPEG)
    assert (response.status_code, code_of(response)) == (500, "internal")
    assert "secret" not in response.text


def test_hostile_names_come_back_as_they_were(backend):
    names = ["<img src=x onerror=alert(1)>.jpg", "a\nb", "=1+1", "\u202egpj.exe", "x" * 5000, "\ud800"]
    images = [{"name": name, "data": base64.b64encode(GOOD).decode()} for name in names]
    response = post(backend, content=json.dumps({"images": images}), headers={"content-type": "application/json"})
    told = [result["name"] for result in response.json()["results"]]
    assert told[:4] == names[:4]
    assert len(told[4]) == 1024
    assert told[5] == "?"
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in response.headers


def test_an_unknown_path_or_method_is_told_in_json(backend):
    async def ask(client: httpx.AsyncClient) -> list[httpx.Response]:
        return [await client.get("/nowhere"), await client.get("/v1/score"), await client.get("/../../etc/passwd")]

    nowhere, method, outside = talk(backend, ask)
    assert (nowhere.status_code, code_of(nowhere)) == (404, "not_found")
    assert (method.status_code, code_of(method)) == (405, "method_not_allowed")
    assert outside.status_code == 404


def test_going_back_is_for_whoever_has_the_operator_s_key_wherever_they_are(backend):
    def ask(*headers: tuple[str, str], peer: str = "127.0.0.1", name: str = "localhost", **keys: str) -> int:
        async def one(client: httpx.AsyncClient) -> int:
            return (await client.post("/v1/model/rollback", headers=headers)).status_code

        return int(talk(backend, one, peer=peer, base_url=f"http://{name}:8000", **keys))

    both = {"api_key": "of-clients", "operator_key": "of-operators"}
    client, operator = (("authorization", f"Bearer {both[whose]}") for whose in both)
    # Behind a proxy everybody's address is this machine's own, and so may be the name it hands on.
    assert ask() == ask(("x-ray-trash", "1")) == ask(operator) == 401
    assert ask(client, **both) == ask(("x-api-key", "of-clients"), **both) == 401
    assert ask(("x-api-key", "of-operators"), operator, **both) == ask(operator, client, **both) == 401
    assert ask(("authorization", "Basic of-operators"), **both) == 401
    assert backend.rolled_back == 0
    assert ask(operator, operator_key="of-operators") == 200
    assert ask(operator, peer="192.0.2.1", name="endpoint.example", **both) == 200
    # A proxy may ask for a password of its own.
    assert ask(("authorization", "Basic of-the-proxy"), ("x-api-key", "of-operators"), **both) == 200
    assert backend.rolled_back == 3


def test_an_operator_may_ask_what_clients_may(backend):
    async def ask(client: httpx.AsyncClient) -> int:
        return (await client.get("/v1/model", headers={"x-api-key": "of-operators"})).status_code

    assert talk(backend, ask, api_key="of-clients", operator_key="of-operators") == 200


def test_counters_count_photos_by_what_became_of_them(backend):
    async def ask(client: httpx.AsyncClient) -> str:
        await client.post("/v1/score", files=files(GOOD, BAD, UNSURE), **EXPLAIN)
        await client.post("/v1/score", content=b"x", headers={"content-type": "text/html"})
        return (await client.get("/metrics")).text

    lines = talk(backend, ask, explain=True).splitlines()
    for line in (
        'ray_trash_photos_total{label="glass",model="0123456789ab"} 1.0',
        'ray_trash_photos_total{label="metal",model="0123456789ab"} 1.0',
        'ray_trash_abstained_total{label="metal",model="0123456789ab"} 1.0',
        'ray_trash_confidence_count{model="0123456789ab"} 2.0',
        'ray_trash_forward_seconds_count{model="0123456789ab"} 1.0',
        "ray_trash_decode_seconds_count 1.0",
        "ray_trash_explain_seconds_count 1.0",
        "ray_trash_queue_seconds_count 1.0",
        'ray_trash_exchanges_total{outcome="done"} 3.0',
        'ray_trash_exchanges_total{outcome="rolled_back"} 0.0',
        'ray_trash_expected_share{label="paper",model="0123456789ab"} 0.3',
        'ray_trash_refused_total{code="truncated"} 1.0',
        'ray_trash_requests_total{status="200"} 1.0',
        'ray_trash_requests_total{status="415"} 1.0',
        'ray_trash_model{id="0123456789ab"} 1.0',
        "ray_trash_photos_in_flight 0.0",
        'ray_trash_batch_photos_bucket{le="4.0"} 1.0',
    ):
        assert line in lines, line
