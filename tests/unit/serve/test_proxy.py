"""What stands inside Ray's own proxy; the proxy itself is made up, and answers as Ray's does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import httpx
import pytest
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import Receive, Scope, Send

from ray_trash.config import ServeConfig
from ray_trash.errors import ConfigError

# Of Ray Serve's own configuration, when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

SMALL = ServeConfig(max_body_mib=0.1, max_waiting_mib=0.2, body_timeout_s=0.2, max_waiting_requests=1)
NO_ANSWER = object()


class RaysProxy:
    """Reads a body whole, as Ray does in a task of its own, and then gives its answer; may raise or say nothing."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = JSONResponse({"ok": True}) if answer is None else answer
        self.n_bytes, self.gave_up = 0, False
        self.headers: dict[bytes, bytes] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.headers = dict(scope["headers"])
        more = True
        while more:
            message = await receive()
            self.gave_up = message["type"] == "http.disconnect"
            self.n_bytes += len(message.get("body", b""))
            more = message.get("more_body", False)
        if isinstance(self.answer, Exception):
            raise self.answer
        if not self.gave_up and self.answer is not NO_ANSWER:
            await self.answer(scope, receive, send)


def ask(
    proxy: RaysProxy, conversation: Callable[[httpx.AsyncClient], Coroutine[Any, Any, httpx.Response]]
) -> httpx.Response:
    from ray_trash.serve.proxy import Bounded

    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(app=Bounded(proxy, SMALL))
        async with httpx.AsyncClient(transport=transport, base_url="http://endpoint") as client:
            return await conversation(client)

    return asyncio.run(asyncio.wait_for(run(), 20))


def get(path: str = "/", **options: Any) -> Callable[[httpx.AsyncClient], Coroutine[Any, Any, httpx.Response]]:
    return lambda client: client.request("GET", path, **options)


def post(content: Any, **headers: str) -> Callable[[httpx.AsyncClient], Coroutine[Any, Any, httpx.Response]]:
    return lambda client: client.post("/v1/score", content=content, headers=headers)


async def chunks(n: int, *, pause_s: float = 0.0) -> AsyncIterator[bytes]:
    for _ in range(n):
        yield bytes(16 * 1024)
        await asyncio.sleep(pause_s)


def code_of(response: httpx.Response) -> tuple[int, str]:
    body = response.json()
    assert body["request_id"] == response.headers["x-request-id"]
    return response.status_code, body["error"]["code"]


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (("Path '/nowhere' not found. Ping http://.../-/routes for available routes.", 404), (404, "not_found")),
        (("Request 1234 timed out after 60s.", 408), (504, "timeout")),
        (("Request dropped due to backpressure (num_queued_requests=64)", 503), (503, "busy")),
        (("Request dropped", 429), (503, "busy")),
        (("ray::ServeReplica: Traceback", 500), (500, "internal")),
    ],
)
def test_what_ray_says_in_plain_text_is_said_as_json_without_its_words(
    said: tuple[str, int], expected: tuple[int, str]
) -> None:
    answer = ask(RaysProxy(PlainTextResponse(*said)), get("/nowhere"))
    assert code_of(answer) == expected
    assert not {"/nowhere", "Ping", "1234", "Traceback"} & set(answer.text.replace("'", " ").split())
    assert ("retry-after" in answer.headers) == (expected[0] == 503)


def test_answers_and_errors_of_the_application_and_ray_s_own_health_stay_as_they_are() -> None:
    kept = (JSONResponse({"error": {"code": "not_ready"}}, 503), PlainTextResponse("counters"))
    for answer in kept:
        assert ask(RaysProxy(answer), get()).content == answer.body
    draining = ask(RaysProxy(PlainTextResponse("DRAINING", 503)), get("/-/healthz"))
    assert (draining.status_code, draining.text) == (503, "DRAINING")


def test_which_applications_there_are_is_nobody_s_business() -> None:
    assert code_of(ask(RaysProxy(JSONResponse({"/": "ray-trash"})), get("/-/routes"))) == (404, "not_found")


def test_a_proxy_that_fails_is_an_error_without_a_trace() -> None:
    refused = ask(RaysProxy(RuntimeError("at /a/path")), get())
    assert code_of(refused) == (500, "internal")
    assert "/a/path" not in refused.text


def test_a_request_whose_gateway_dies_may_be_answered_by_another() -> None:
    refused = ask(RaysProxy(NO_ANSWER), get())
    assert code_of(refused) == (503, "replica_failed")
    assert refused.headers["retry-after"] == str(ServeConfig().retry_after_s)


def test_a_body_over_the_limit_is_refused_before_or_while_ray_reads_it() -> None:
    announced, chunked = RaysProxy(), RaysProxy()
    assert code_of(ask(announced, post(bytes(200_000)))) == (413, "body_too_large")
    assert code_of(ask(chunked, post(chunks(1000)))) == (413, "body_too_large")
    assert announced.n_bytes == 0
    assert chunked.gave_up
    assert chunked.n_bytes <= 110_000
    whole = RaysProxy()
    assert ask(whole, post(bytes(100_000))).json() == {"ok": True}
    assert whole.n_bytes == 100_000


def test_a_body_that_does_not_come_is_told_to_be_too_slow_and_no_photos_come_by_get() -> None:
    slow = RaysProxy()
    assert code_of(ask(slow, post(chunks(2, pause_s=5)))) == (408, "slow_body")
    assert slow.gave_up
    assert code_of(ask(RaysProxy(), get(content=chunks(1000)))) == (413, "body_too_large")


def test_beyond_what_may_wait_requests_are_told_to_come_again_but_not_the_probes() -> None:
    statuses: list[int] = []

    class Slow(RaysProxy):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            async def answer(*call: Any) -> None:
                await asyncio.sleep(0.5)
                await JSONResponse({"ok": True})(*call)

            self.answer = answer if scope["method"] == "POST" else JSONResponse({"ok": True})
            await super().__call__(scope, receive, send)

    async def flood(client: httpx.AsyncClient) -> httpx.Response:
        first = asyncio.ensure_future(client.post("/v1/score", content=b"photo"))
        await asyncio.sleep(0.1)
        second, probe = await client.post("/v1/score", content=b"photo"), await client.get("/healthz")
        statuses.extend((probe.status_code, (await first).status_code))
        return second

    assert code_of(ask(Slow(), flood)) == (503, "busy")
    assert statuses == [200, 200]


def test_no_client_gives_ray_orders_and_an_id_that_is_none_is_replaced() -> None:
    proxy = RaysProxy()
    orders = {
        "X-Request-Timeout-Seconds": "0",
        "Serve-Multiplexed-Model-Id": "a",
        "X-Session-Id": "b",
        "X-Request-ID": "ü",
    }
    answer = ask(proxy, get(headers=[(name, value.encode("latin-1")) for name, value in orders.items()]))
    assert {b"x-request-timeout-seconds", b"serve-multiplexed-model-id", b"x-session-id"}.isdisjoint(proxy.headers)
    assert proxy.headers[b"x-request-id"].decode() == answer.headers["x-request-id"]
    assert answer.headers["x-request-id"].isascii()


def test_the_limits_are_those_of_the_variable_and_a_wrong_one_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray_trash.serve.proxy import VARIABLE, Bounded, middlewares

    monkeypatch.setenv(VARIABLE, "serve.max_body_mib=64 serve.body_timeout_s=20")
    (middleware,) = middlewares()
    cls: Any = middleware.cls
    assert cls is Bounded
    assert middleware.args[0] == ServeConfig(max_body_mib=64, body_timeout_s=20)
    monkeypatch.setenv(VARIABLE, "serve.max_body=64")
    with pytest.raises(ConfigError, match=r"did you mean serve\.max_body_mib"):
        middlewares()
