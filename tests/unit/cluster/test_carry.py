"""Errors that cross a process or a thread, and what they keep."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Iterator

import pytest

from ray_trash.cluster.carry import Carried
from ray_trash.cluster.waiting import in_daemon_thread, wait_in_thread
from ray_trash.errors import CheckpointError


class Large:
    """What a caller has while it waits, such as a checkpoint."""


def fail() -> None:
    raise CheckpointError("not good")


def carried() -> weakref.ref[Large]:
    large = Large()
    with pytest.raises(CheckpointError):
        Carried[None](None, CheckpointError("not good")).value()
    return weakref.ref(large)


def waited_for() -> weakref.ref[Large]:
    large = Large()
    with pytest.raises(CheckpointError):
        wait_in_thread(fail, name="work")
    return weakref.ref(large)


async def _awaited() -> weakref.ref[Large]:
    large = Large()
    with pytest.raises(CheckpointError):
        await in_daemon_thread(fail, name="work")
    return weakref.ref(large)


def awaited() -> weakref.ref[Large]:
    return asyncio.run(_awaited())


@pytest.fixture
def no_search_for_cycles() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_search_for_cycles")
@pytest.mark.parametrize("meet", [carried, waited_for, awaited])
def test_once_an_error_was_handled_nothing_is_kept_of_who_met_it(meet: Callable[[], weakref.ref[Large]]) -> None:
    assert meet()() is None
