from __future__ import annotations

import email.utils
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ray_trash.errors import ClusterError, ConfigError, RayTrashError
from ray_trash.serve import client as client_module
from ray_trash.serve.client import Client, TooLargeError
from tests.standin import StandIn, stand_in

PHOTOS = [("a.jpg", b"one"), ("b.jpg", b"two")]


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    monkeypatch.setattr(client_module, "FIRST_WAIT_S", 0.001)
    with stand_in() as running:
        yield running


def failure(status: int, **headers: str) -> tuple[int, dict[str, str], dict]:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, names, {"error": {"code": "some_code", "message": "the reason"}}


def test_results_come_in_order_with_the_model_that_answered(endpoint: StandIn) -> None:
    with Client(endpoint.url + "/") as client:
        assert client.model()["classes"] == ["glass", "metal"]
        results = client.score(PHOTOS)
    assert [result["name"] for result in results] == ["a.jpg", "b.jpg"]
    assert {result["model_id"] for result in results} == {"abc123"}


def test_the_key_is_sent_with_every_request(endpoint: StandIn) -> None:
    with Client(endpoint.url, api_key="secret") as client:
        client.model()
        client.score(PHOTOS)
    assert endpoint.keys == ["Bearer secret"] * 2


@pytest.mark.parametrize("status", [429, 502, 503])
def test_what_may_pass_is_tried_again(status: int, endpoint: StandIn) -> None:
    endpoint.script = [failure(status), failure(status)]
    with Client(endpoint.url) as client:
        assert len(client.score(PHOTOS)) == 2
    assert len(endpoint.batches) == 3


def test_a_full_endpoint_is_asked_so_often_and_no_more(endpoint: StandIn) -> None:
    endpoint.script = [failure(503)] * 9
    with Client(endpoint.url, retries=2) as client, pytest.raises(ClusterError, match=r"503: the reason; 3 attempts"):
        client.score(PHOTOS)
    assert len(endpoint.batches) == 3


def test_retry_after_is_waited_for(endpoint: StandIn) -> None:
    endpoint.script = [failure(429, retry_after="0.2")]
    started = time.monotonic()
    with Client(endpoint.url) as client:
        client.score(PHOTOS)
    assert time.monotonic() - started >= 0.2


def test_retry_after_may_be_a_date_and_is_never_longer_than_a_bound(
    endpoint: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "MAX_WAIT_S", 0.1)
    endpoint.script = [
        failure(429, retry_after=email.utils.formatdate(time.time() + 3600, usegmt=True)),
        failure(503, retry_after="in a while"),
    ]
    started = time.monotonic()
    with Client(endpoint.url) as client:
        client.score(PHOTOS)
    assert 0.1 <= time.monotonic() - started < 10


def test_an_answer_that_was_late_is_asked_for_once_more(endpoint: StandIn) -> None:
    endpoint.script = [failure(504)]
    with Client(endpoint.url) as client:
        assert len(client.score(PHOTOS)) == 2
        endpoint.script = [failure(504)] * 3
        with pytest.raises(ClusterError, match=r"504: the reason; 2 attempts"):
            client.score(PHOTOS)


@pytest.mark.parametrize(
    ("status", "words"), [(400, "understand"), (401, "--api-key-file"), (404, "address"), (415, "takes no")]
)
def test_a_mistake_is_not_tried_again(status: int, words: str, endpoint: StandIn) -> None:
    endpoint.script = [failure(status)]
    with Client(endpoint.url) as client, pytest.raises(ConfigError, match=words):
        client.score(PHOTOS)
    assert len(endpoint.batches) == 1


def test_too_much_for_one_request_is_an_error_of_its_own(endpoint: StandIn) -> None:
    endpoint.max_photos = 1
    with Client(endpoint.url) as client, pytest.raises(TooLargeError, match="more than 1 photos"):
        client.score(PHOTOS)


def test_an_error_of_the_endpoint_is_said(endpoint: StandIn) -> None:
    endpoint.script = [failure(500)]
    with Client(endpoint.url) as client, pytest.raises(RayTrashError, match="500: the reason"):
        client.score(PHOTOS)


@pytest.mark.parametrize("body", [{}, {"model": {"id": "x"}, "results": []}, {"model": [], "results": 3}])
def test_what_is_no_endpoint_is_told_apart(body: dict, endpoint: StandIn) -> None:
    endpoint.script = [(200, {}, body), (200, {}, body)]
    with Client(endpoint.url) as client:
        with pytest.raises(ClusterError, match="no ray-trash endpoint"):
            client.score(PHOTOS)
        with pytest.raises(ClusterError, match="no ray-trash endpoint"):
            client.model()


def test_an_endpoint_that_is_not_there_is_tried_and_named(endpoint: StandIn) -> None:
    with stand_in() as gone:
        url = gone.url
    with Client(url, retries=1) as client, pytest.raises(ClusterError, match=rf"{url}: cannot be reached.*2 attempts"):
        client.score(PHOTOS)


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://127.0.0.1", "http://[::1", ""])
def test_what_is_no_address_is_a_mistake(url: str) -> None:
    with pytest.raises(ConfigError, match="address"), Client(url) as client:
        client.model()


@pytest.mark.parametrize("exchange", [Client.roll_back, Client.promote])
def test_an_exchange_is_asked_for_once(exchange: Callable[[Client], Any], endpoint: StandIn) -> None:
    endpoint.script = [failure(503)]
    with Client(endpoint.url) as client, pytest.raises(ClusterError, match="1 attempts"):
        exchange(client)
    assert len(endpoint.keys) == 1
