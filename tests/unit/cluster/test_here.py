"""Without a connection to Ray this process does what tasks would do, and few photos are no reason to start one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pyarrow as pa
import pytest

from ray_trash.cluster import connect
from ray_trash.cluster.blocks import Actors, Tasks, map_blocks_here
from ray_trash.cluster.here import MOST_PHOTOS, is_little, photos_of_224_px, session_if
from ray_trash.cluster.tasks import cluster_cpus, put, run_tasks, task
from ray_trash.cluster.waiting import fetch
from ray_trash.terminal.say import Terminal

NUMBERS = pa.schema([("number", pa.int64())])


def numbers(*values: int) -> pa.Table:
    return pa.table({"number": values}, schema=NUMBERS)


@pytest.fixture(autouse=True)
def own_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    started: list[bool] = []

    @contextmanager
    def session(*, dashboard: bool, terminal: Terminal) -> Iterator[None]:
        started.append(dashboard)
        yield

    monkeypatch.setattr(connect, "ray_session", session)
    return started


def test_tasks_take_what_others_returned_and_what_was_put() -> None:
    halves = task(lambda number: (number // 2, number % 2), n_returned=2)
    add = task(lambda *given: sum(given))
    starts = [partial(halves, put(7)), partial(halves, 4)]
    found = dict(run_tasks(starts, at_once=cluster_cpus(), what="halves"))
    assert fetch(add(*found[0], *found[1], 10), what="a sum") == 3 + 1 + 2 + 0 + 10


def test_tasks_are_started_one_after_another_as_they_are_asked_for() -> None:
    started: list[int] = []
    mark = task(started.append)
    tasks = run_tasks([partial(mark, number) for number in range(3)], at_once=1, what="marks")
    assert [next(tasks)[0], next(tasks)[0]] == [0, 1]
    assert started == [0, 1]


def test_blocks_go_through_every_step_here_and_a_process_is_made_once() -> None:
    made: list[str] = []

    def make():
        made.append("one")
        return lambda block: numbers(*(10 * n for n in block["number"].to_pylist()))

    twice = Tasks(lambda block: iter([block, block]), NUMBERS, cpus=1.0)
    found = map_blocks_here([numbers(1), numbers(2, 3)], twice, Actors(make, NUMBERS, cpus=1.0, size=4))
    assert [block["number"].to_pylist() for block in found] == [[10], [10], [20, 30], [20, 30]]
    assert made == ["one"]


def test_ray_is_started_for_many_photos_and_for_workers_and_joined_where_it_is_named(
    sessions: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    with session_if(not is_little(MOST_PHOTOS), terminal=Terminal.silent()):
        assert sessions == []
    with session_if(not is_little(MOST_PHOTOS + 1), dashboard=True, terminal=Terminal.silent()):
        assert sessions == [True]
    assert not is_little(1, workers=2)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert not is_little(1)


def test_small_photos_are_less_work_and_views_are_more() -> None:
    assert photos_of_224_px(100, size_px=224, views=8) == 800
    assert photos_of_224_px(100, size_px=112, views=1) == 25
