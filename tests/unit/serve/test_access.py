"""The log of an endpoint: a line for a request, for people and for programs, and the id that both sides know it by."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from ray_trash.serve.contract import ServeError
from ray_trash.serve.log import LogFormat, start_log, tell
from tests.unit.serve.asking import JPEG, files, talk
from tests.unit.serve.backends import BAD, CARD, GOOD, FakeBackend


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    written = io.StringIO()
    start_log("json", written)
    yield written
    start_log("text", io.StringIO())


def lines(log: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


def test_a_request_is_one_line_with_its_id_its_photos_and_who_answered(backend: FakeBackend, log: io.StringIO) -> None:
    async def ask(client: httpx.AsyncClient) -> list[httpx.Response]:
        given = {"x-request-id": "of-the-proxy-1"}
        return [
            await client.post("/v1/score?a=b", files=files(GOOD, BAD), headers=given),
            await client.post("/v1/score", content=b"x", headers={"content-type": "text/html"}),
        ]

    good, refused = talk(backend, ask)
    first, second = lines(log)
    assert (first["event"], first["method"], first["path"], first["status"]) == ("request", "POST", "/v1/score", 200)
    assert (first["photos"], first["model"], first["level"]) == (2, CARD.id, "info")
    assert first["milliseconds"] >= 0
    assert good.headers["x-request-id"] == first["request_id"] == "of-the-proxy-1"
    assert (second["status"], second["photos"], second["model"]) == (415, 0, None)
    assert refused.headers["x-request-id"] == refused.json()["request_id"] == second["request_id"]


def test_an_id_that_may_be_anything_gets_another_in_its_place(backend: FakeBackend, log: io.StringIO) -> None:
    given = ["", "two words", "x" * 129, '"}, {"event": "forged', "caf\u00e9"]

    async def ask(client: httpx.AsyncClient) -> list[str]:
        asked = [await client.get("/v1/model", headers=[(b"x-request-id", name.encode())]) for name in given]
        return [response.headers["x-request-id"] for response in asked]

    answered = talk(backend, ask)
    assert [line["request_id"] for line in lines(log)] == answered
    assert not set(given) & set(answered)
    assert len(set(answered)) == len(given)


def test_probes_are_no_news_unless_they_fail(backend: FakeBackend, log: io.StringIO) -> None:
    async def ask(client: httpx.AsyncClient) -> None:
        for path in ("/healthz", "/readyz", "/trash/healthz/", "/metrics"):
            await client.get(path)
        backend.ready = False
        await client.get("/readyz")

    talk(backend, ask, root_path="/trash")
    (line,) = lines(log)
    assert (line["path"], line["status"], line["level"]) == ("/readyz", 503, "warning")


def test_what_failed_unforeseen_is_one_line_of_json_with_its_trace(backend: FakeBackend, log: io.StringIO) -> None:
    backend.problem = RuntimeError("secret detail")  # type: ignore[assignment]

    async def ask(client: httpx.AsyncClient) -> httpx.Response:
        return await client.post("/v1/score", content=GOOD, headers=JPEG)

    answer = talk(backend, ask)
    unforeseen, request = lines(log)
    assert "secret detail" not in answer.text
    assert "secret detail" in unforeseen["trace"]
    assert unforeseen["request_id"] == request["request_id"] == answer.json()["request_id"]
    assert (request["status"], request["level"]) == (500, "warning")


def test_a_client_that_went_is_499_and_no_error(backend: FakeBackend, log: io.StringIO) -> None:
    backend.problem = ServeError(499, "hung_up", "the client has gone")

    async def ask(client: httpx.AsyncClient) -> None:
        await client.post("/v1/score", content=GOOD, headers=JPEG)

    talk(backend, ask)
    (line,) = lines(log)
    assert (line["status"], line["level"]) == (499, "info")


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("log_format", "stream", "is_json"),
    [
        ("auto", _Terminal(), False),
        ("auto", io.StringIO(), True),
        ("text", io.StringIO(), False),
        ("json", _Terminal(), True),
    ],
)
def test_a_terminal_gets_lines_for_people_and_everything_else_json(
    log_format: LogFormat, stream: io.StringIO, is_json: bool
) -> None:
    start_log(log_format, stream)
    tell("exchanged", "now answered by a\nb", model="a")
    (line,) = stream.getvalue().splitlines()
    assert line.startswith("{") is is_json
    if is_json:
        told = json.loads(line)
        assert (told["event"], told["level"], told["model"]) == ("exchanged", "info", "a")
        assert told["time"].endswith("+00:00")
    else:
        assert line.endswith(" now answered by a\\nb")


def test_a_path_cannot_break_a_line(backend: FakeBackend) -> None:
    written = io.StringIO()
    start_log("text", written)

    async def ask(client: httpx.AsyncClient) -> None:
        await client.get("/a%0Aready: http://elsewhere" + "x" * 5000)

    talk(backend, ask)
    (line,) = written.getvalue().splitlines()
    assert len(line) < 400
