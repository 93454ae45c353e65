"""Bodies that come slowly, without a length or not at all, and how many of them may wait."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from ray_trash.config import ServeConfig
from ray_trash.serve.gateway import Gateway
from ray_trash.serve.key import Keys
from tests.unit.serve.asking import JPEG, code_of, files, post, talk
from tests.unit.serve.backends import GOOD


def test_a_body_without_a_length_is_cut_off_at_the_limit(backend):
    sent = []

    async def endless():
        while True:
            sent.append(1)
            yield b"x" * 65536

    response = post(backend, content=endless(), headers=JPEG, settings={"max_body_mib": 1})
    assert (response.status_code, code_of(response)) == (413, "body_too_large")
    assert len(sent) < 40


def test_a_body_that_does_not_come_is_told_so(backend):
    async def slow():
        yield b"x"
        await asyncio.sleep(30)

    response = post(backend, content=slow(), headers=JPEG, settings={"body_timeout_s": 0.1})
    assert (response.status_code, code_of(response)) == (408, "slow_body")


def test_a_body_that_still_arrives_when_the_endpoint_ends_is_told_to_come_again(backend):
    async def run() -> tuple[httpx.Response, httpx.Response]:
        async def slow():
            yield b"x"
            await asyncio.sleep(30)

        backend.delay_s = 0.2
        gateway = Gateway(backend, ServeConfig(), keys=Keys())
        transport = httpx.ASGITransport(gateway.application())
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            asked = [client.post("/v1/score", content=body, headers=JPEG) for body in (slow(), GOOD)]
            answers = asyncio.gather(*asked)
            await asyncio.sleep(0.1)
            gateway.refuse_unfinished()
            refused, answered = await answers
            return refused, answered

    refused, answered = asyncio.run(run())
    assert (refused.status_code, code_of(refused)) == (503, "stopping")
    assert refused.headers["retry-after"] == "1"
    assert answered.status_code == 200


def test_chunks_are_counted_as_they_come(backend):
    backend.delay_s = 0.3

    async def chunks():
        for _ in range(6):
            yield b"x" * 100_000

    async def crowd(client: httpx.AsyncClient) -> tuple[httpx.Response, httpx.Response]:
        first = asyncio.ensure_future(client.post("/v1/score", content=chunks(), headers=JPEG))
        await asyncio.sleep(0.1)
        late = await client.post("/v1/score", content=chunks(), headers=JPEG)
        return await first, late

    first, late = talk(backend, crowd, max_waiting_mib=1, max_body_mib=1)
    assert first.json()["results"][0]["error"]["code"] == "truncated"  # it was let in
    assert (late.status_code, code_of(late)) == (503, "busy")


def test_a_length_beside_chunks_is_refused(backend):
    headers = {**JPEG, "content-length": "1", "transfer-encoding": "chunked"}
    response = post(backend, content=GOOD, headers=headers)
    assert (response.status_code, code_of(response)) == (400, "bad_request")


def test_bodies_that_are_only_announced_keep_nobody_out(backend):
    async def silent():
        await asyncio.sleep(1)
        yield b""

    async def crowd(client: httpx.AsyncClient) -> httpx.Response:
        waiting = [
            asyncio.ensure_future(client.post("/v1/score", content=silent(), headers={**JPEG, **length}))
            for length in ({}, {}, {"content-length": "900000"}, {"content-length": "900000"})
        ]
        await asyncio.sleep(0.1)
        answer = await client.post("/v1/score", content=GOOD, headers=JPEG)
        assert not any(task.done() for task in waiting)
        for task in waiting:
            task.cancel()
        return answer

    assert talk(backend, crowd, max_waiting_requests=2, max_waiting_mib=1, max_body_mib=1).status_code == 200


@pytest.mark.parametrize(
    "settings",
    [
        {"max_waiting_requests": 2},
        {"max_waiting_photos": 4, "max_batch_images": 2},
        {"max_waiting_mib": 1, "max_body_mib": 0.45},
    ],
)
def test_more_than_may_wait_is_turned_away_at_once_and_the_rest_is_answered(backend, settings):
    backend.delay_s = 0.3
    photos = files(GOOD, GOOD + b"x" * 400_000)

    async def crowd(client: httpx.AsyncClient) -> list[httpx.Response]:
        first = [asyncio.ensure_future(client.post("/v1/score", files=photos)) for _ in range(2)]
        await asyncio.sleep(0.1)
        late = await client.post("/v1/score", files=photos)
        assert not any(task.done() for task in first)
        again = await asyncio.gather(*first)
        return [*again, late, await client.post("/v1/score", files=photos)]

    *answered, late, after = talk(backend, crowd, **settings)
    assert [response.status_code for response in (*answered, after)] == [200, 200, 200]
    assert (late.status_code, code_of(late)) == (503, "busy")
    assert late.headers["retry-after"] == "1"


def test_a_request_that_would_be_answered_too_late_is_turned_away_at_once(backend):
    backend.delay_s = 1.2

    async def crowd(client: httpx.AsyncClient) -> list[httpx.Response]:
        await client.post("/v1/score", files=files(GOOD))  # one photo takes more than a second
        first = asyncio.ensure_future(client.post("/v1/score", files=files(GOOD)))
        await asyncio.sleep(0.1)
        late = await client.post("/v1/score", files=files(*[GOOD] * 30))
        assert not first.done()
        return [await first, late]

    first, late = talk(backend, crowd, timeout_s=30)
    assert first.status_code == 200
    assert (late.status_code, code_of(late)) == (503, "busy")
    assert int(late.headers["retry-after"]) > 10
