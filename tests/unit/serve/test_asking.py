"""Asking replicas that fail or are silent; only they are made up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from ray.exceptions import RayActorError
from ray.serve.exceptions import BackPressureError

from ray_trash.serve.asking import ask_replicas
from ray_trash.serve.contract import ServeError

# Of Ray Serve's own configuration, when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
TIMEOUT_S = 0.4

Reply = Callable[[], Awaitable[str]]


class Replica:
    """A handle that leads to one replica, which is also its own method."""

    def __init__(self, reply: Reply) -> None:
        self.answer, self._reply = self, reply

    async def remote(self, photos: list[bytes], *, explain: bool) -> str:
        return await self._reply()


async def good() -> str:
    return "an answer"


async def silent() -> str:
    await asyncio.sleep(60)
    raise AssertionError("nobody waits for so long")


async def slow() -> str:
    await asyncio.sleep(0.75 * TIMEOUT_S)
    return "a late answer"


async def failing() -> str:
    raise RayActorError


async def busy() -> str:
    raise BackPressureError(num_queued_requests=1, max_queued_requests=1)


def ask(*replies: Reply) -> Any:
    """Ask the first of some replicas, and the next at each further attempt."""

    async def handle_for(attempt: int) -> Any:
        return Replica(replies[attempt - 1])

    return asyncio.run(ask_replicas(handle_for, [b"photo"], timeout_s=TIMEOUT_S, retry_after_s=1))


@pytest.mark.parametrize("first", [silent, failing])
def test_what_a_replica_that_fails_or_is_silent_does_not_answer_another_does(first: Reply) -> None:
    assert ask(first, good) == "an answer"


@pytest.mark.parametrize("second", [silent, failing])
def test_an_answer_that_comes_late_counts_whatever_becomes_of_the_second_attempt(second: Reply) -> None:
    assert ask(slow, second) == "a late answer"


@pytest.mark.parametrize(
    ("replies", "status", "code"),
    [
        ((silent, silent), 504, "timeout"),
        ((failing, silent), 504, "timeout"),
        ((silent, failing), 504, "timeout"),
        ((failing, failing), 503, "replica_failed"),
        ((busy,), 503, "busy"),
    ],
)
def test_where_nobody_answers_the_client_is_told_why(replies: tuple[Reply, ...], status: int, code: str) -> None:
    with pytest.raises(ServeError) as raised:
        ask(*replies)
    assert (raised.value.status, raised.value.code) == (status, code)
