"""Clients on real sockets: slow ones, endless ones, and ones that go away."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from ray_trash.config import ServeConfig
from ray_trash.serve import admission, protocol
from ray_trash.serve.sockets import bind
from tests.unit.serve.backends import GOOD, FakeBackend
from tests.unit.serve.live import live_gateway

SETTINGS = ServeConfig(header_timeout_s=0.5, body_timeout_s=0.5, max_body_mib=1, max_waiting_mib=4)
POST = b"POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"


@pytest.fixture(scope="module")
def backend() -> FakeBackend:
    return FakeBackend()


@pytest.fixture(scope="module")
def address(backend: FakeBackend) -> Iterator[tuple[str, int]]:
    with live_gateway(backend, SETTINGS) as address:
        yield address


def connect(address: tuple[str, int], data: bytes = b"") -> socket.socket:
    client = socket.create_connection(address, timeout=5)
    client.sendall(data)
    return client


def read_all(client: socket.socket) -> bytes:
    """Read until the server closes; a reset is a close."""
    parts = []
    try:
        while part := client.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    finally:
        client.close()
    return b"".join(parts)


def answers(address: tuple[str, int]) -> bool:
    host, port = address
    response = httpx.post(f"http://{host}:{port}/v1/score", content=GOOD, headers={"content-type": "image/jpeg"})
    return response.status_code == 200


def test_small_answers_are_sent_without_waiting_for_more() -> None:
    async def accepted() -> int:
        options: list[int] = []

        class Looks(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                found = transport.get_extra_info("socket")
                options.append(found.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

        (taken,) = bind("127.0.0.1", 0)
        async with await asyncio.get_running_loop().create_server(Looks, sock=taken):
            _, writer = await asyncio.open_connection(*taken.getsockname())
            while not options:
                await asyncio.sleep(0.01)
            writer.close()
        return options[0]

    assert asyncio.run(accepted())


@pytest.mark.parametrize(
    "sent", [b"", b"POST /v1/score HTT", POST, POST + b"X: "], ids=["nothing", "a line", "headers", "a header"]
)
def test_headers_that_do_not_come_end_the_connection(address, sent):
    started = time.monotonic()
    assert read_all(connect(address, sent)) == b""
    assert 0.3 < time.monotonic() - started < 3


def test_a_body_that_does_not_come_is_told_so_and_ends_the_connection(address):
    started = time.monotonic()
    answer = read_all(connect(address, POST + b"Content-Length: 100\r\n\r\nabc"))
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"slow_body" in answer
    assert time.monotonic() - started < 3


def drip(client: socket.socket, piece: bytes, *, n: int) -> bytes:
    """Send pieces at a steady pace, ten a second, until the server answers; returns the answer and what follows."""
    client.settimeout(0.1)
    answer = b""
    for _ in range(n):
        with contextlib.suppress(ConnectionResetError, BrokenPipeError, TimeoutError):
            client.sendall(piece)
            answer = client.recv(65536)
            break
    client.settimeout(5)
    return answer + read_all(client)


def test_a_body_that_comes_slowly_but_steadily_is_answered_however_long_it_takes(address):
    client = connect(address, POST + b"Connection: close\r\nContent-Length: 8000\r\n\r\n")
    assert drip(client, b"x" * 400, n=20).startswith(b"HTTP/1.1 422 ")  # four times as long as silence may last


@pytest.mark.parametrize("sent", [b"", b"x" * 900_000], ids=["from the start", "after much"])
def test_a_body_that_only_drips_is_told_so(address, sent):
    client = connect(address, POST + b"Content-Length: 999999\r\n\r\n" + sent)
    answer = drip(client, b"x", n=30)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"less than 1 KiB of the body came within 0.5 s" in answer


def test_no_body_may_take_for_ever(address, monkeypatch):
    monkeypatch.setattr(admission, "LONGEST_BODY", 2)
    client = connect(address, POST + b"Content-Length: 999999\r\n\r\n")
    answer = drip(client, b"x" * 1000, n=30)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"did not come within 1 s; send fewer photos at once" in answer


def test_a_body_that_nobody_reads_any_more_is_waited_for_no_longer_than_silence(address):
    client = connect(address, POST.replace(b"/score", b"/nothing") + b"Content-Length: 99999\r\n\r\n")
    assert client.recv(65536).startswith(b"HTTP/1.1 404 ")
    assert drip(client, b"x" * 1000, n=30) == b""


@pytest.mark.parametrize("answered", [False, True])
def test_what_is_no_body_and_clients_that_leave_in_the_middle_of_one_are_no_news_for_the_log(address, caplog, answered):
    path = b"/nothing" if answered else b"/score"
    client = connect(address, POST.replace(b"/score", path) + b"Transfer-Encoding: chunked\r\n\r\n")
    if answered:
        assert client.recv(65536).startswith(b"HTTP/1.1 404 ")
    client.sendall(b"this is no chunk\r\n")
    assert read_all(client).startswith(b"" if answered else b"HTTP/1.1 400 ")
    before = counted(address, 499)
    connect(address, POST + b"Content-Length: 100\r\n\r\nx").close()
    deadline_s = time.monotonic() + 3
    while counted(address, 499) == before:
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    told = [record for record in caplog.records if record.name not in ("uvicorn.error", "httpx")]
    # A line a request, as for all others.
    assert not [
        record for record in told if record.levelno > logging.INFO or not record.message.startswith("POST /v1/")
    ]


def counted(address: tuple[str, int], status: int) -> float:
    host, port = address
    lines = httpx.get(f"http://{host}:{port}/metrics").text.splitlines()
    start = f'ray_trash_requests_total{{status="{status}"}} '
    return sum(float(line.removeprefix(start)) for line in lines if line.startswith(start))


@pytest.mark.parametrize(
    "request_",
    [
        POST.replace(b"/v1", b"http://x/v1") + b"Content-Length: 4\r\n\r\ngood",
        POST.replace(b"/v1", b"HTTPS://X:8000//v1") + b"Content-Length: 4\r\n\r\ngood",
        POST.replace(b"1.1", b"1.0").replace(b"Host: x\r\n", b"") + b"Content-Length: 4\r\n\r\ngood",
        POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\ngo\r\n2;a=b\r\nod\r\n0\r\nX: y\r\n\r\n",
        POST + b"Expect: nonsense\r\nContent-Length: 4\r\n\r\ngood",
        POST + b"Upgrade: h2c\r\nContent-Length: 4\r\n\r\ngood",
        POST.replace(b"Host: x", b"HOST: LOCALHOST:8000") + b"Content-Length: 4\r\n\r\ngood",
    ],
    ids=["absolute", "absolute, upper case", "1.0", "chunks", "expect", "upgrade", "host"],
)
def test_http_as_old_and_new_clients_speak_it_is_understood(address, request_):
    closing = request_.replace(b"Content-Type", b"Connection: close\r\nContent-Type", 1)
    answer = read_all(connect(address, closing))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b'"label":"glass"' in answer


def test_a_client_that_asks_before_it_sends_a_body_is_told_to_go_on_or_why_not(address):
    ask = POST + b"Connection: close\r\nExpect: 100-continue\r\nContent-Length: "
    client = connect(address, ask + b"4\r\n\r\n")
    assert client.recv(65536).startswith(b"HTTP/1.1 100 ")
    client.sendall(b"good")
    assert read_all(client).startswith(b"HTTP/1.1 200 ")
    assert read_all(connect(address, ask + b"99999999\r\n\r\n")).startswith(b"HTTP/1.1 413 ")


def test_where_all_places_are_taken_one_more_takes_that_of_a_connection_that_rests(address, monkeypatch):
    host, port = address
    with httpx.Client(base_url=f"http://{host}:{port}") as rests:
        assert rests.get("/healthz").status_code == 200
        monkeypatch.setattr(protocol, "MAX_CONNECTIONS", 1)
        assert answers(address)
        assert rests.get("/healthz").status_code == 200  # it connects again


def test_headers_sent_byte_by_byte_do_not_extend_the_deadline(address):
    client = connect(address)
    started = time.monotonic()
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        for byte in POST * 100:
            client.sendall(bytes([byte]))
            time.sleep(0.02)
    client.close()
    assert time.monotonic() - started < 3


def test_hundreds_of_half_open_connections_hurt_nobody(address):
    clients = [connect(address, POST) for _ in range(300)]
    assert answers(address)
    time.sleep(1)
    assert all(read_all(client) == b"" for client in clients)
    assert answers(address)


def test_a_kept_connection_may_rest_longer_than_headers_may_take(address):
    host, port = address
    with httpx.Client(base_url=f"http://{host}:{port}") as client:
        assert client.get("/healthz").status_code == 200
        time.sleep(0.9)
        assert client.get("/healthz").status_code == 200


def test_headers_that_are_too_long_are_refused_in_json(address):
    answer = read_all(connect(address, b"GET / HTTP/1.1\r\nX: " + b"a" * 200_000 + b"\r\n\r\n"))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["error"]["code"] == "bad_request"


def test_a_body_over_the_limit_is_refused_before_it_is_sent(address):
    client = connect(address, POST + b"Content-Length: 99999999999\r\n\r\n")
    assert client.recv(65536).startswith(b"HTTP/1.1 413 ")
    client.close()


def test_a_client_that_sends_all_of_a_body_over_the_limit_reads_its_refusal(address):
    host, port = address
    response = httpx.post(
        f"http://{host}:{port}/v1/score", content=b"x" * (8 << 20), headers={"content-type": "image/jpeg"}
    )
    assert response.status_code == 413


def test_a_client_that_has_only_stopped_sending_gets_its_answer_and_the_server_s_options_can_be_asked(address, backend):
    backend.delay_s = 0.3
    try:
        client = connect(address, POST + b"Content-Length: 4\r\n\r\ngood")
        client.shutdown(socket.SHUT_WR)
        assert b"HTTP/1.1 200 OK" in read_all(client)
    finally:
        backend.delay_s = 0.0
    asked = connect(address, b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answer = read_all(asked).lower()
    assert answer.startswith(b"http/1.1 204 ")
    assert b"allow: get, head, options, post\r\n" in answer


def test_a_client_that_goes_away_gives_its_place_back(address, backend):
    backend.delay_s = 5
    gone = backend.cancelled
    try:
        clients = [connect(address, POST + b"Content-Length: 4\r\n\r\ngood") for _ in range(5)]
        time.sleep(0.3)
        for client in clients:
            client.close()
        deadline_s = time.monotonic() + 3
        while backend.cancelled < gone + 5:
            assert time.monotonic() < deadline_s, "requests of clients that are gone go on"
            time.sleep(0.05)
    finally:
        backend.delay_s = 0
    assert answers(address)


def test_two_requests_in_one_write_are_both_answered(address):
    request = POST + b"Content-Length: 4\r\n\r\ngood"
    client = connect(address, request + request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert read_all(client).count(b"HTTP/1.1 200 ") == 2


def test_a_client_that_does_not_read_is_hung_up_on(address):
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect(address)
    client.settimeout(0.2)
    request = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"

    def ask_on_and_on() -> None:
        deadline_s = time.monotonic() + 15
        while time.monotonic() < deadline_s:
            with contextlib.suppress(TimeoutError):
                client.sendall(request * 100)

    with pytest.raises(ConnectionError):
        ask_on_and_on()
    client.close()
    assert answers(address)
