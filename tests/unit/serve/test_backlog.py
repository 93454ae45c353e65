"""Whether a request can be answered in time is known from how long the ones before took."""

from __future__ import annotations

import pytest

from ray_trash.serve.backlog import Backlog


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_the_wait_is_what_is_waiting_over_what_is_done_in_a_second():
    clock = Clock()
    backlog = Backlog(clock)
    assert backlog.expected_s(64) == 0
    backlog.begin(100)
    for _ in range(10):
        clock.now_s += 1
        backlog.end(5, answered=True)
    assert backlog.waiting == 50
    assert backlog.expected_s(10) == pytest.approx(60 / 5)


def test_nobody_is_turned_away_from_an_idle_endpoint_and_idle_time_does_not_slow_the_rate():
    clock = Clock()
    backlog = Backlog(clock)
    backlog.begin(20)
    clock.now_s += 2
    backlog.end(20, answered=True)
    clock.now_s += 1000
    assert backlog.expected_s(64) == 0
    backlog.begin(10)
    assert backlog.expected_s(10) == pytest.approx(2)


def test_the_rate_follows_what_happens_now():
    clock = Clock()
    backlog = Backlog(clock)
    backlog.begin(10_000)
    for _ in range(100):
        clock.now_s += 1
        backlog.end(1, answered=True)
    for _ in range(100):
        clock.now_s += 1
        backlog.end(50, answered=True)
    assert backlog.expected_s(0) == pytest.approx(backlog.waiting / 50, rel=0.1)


def test_what_was_not_answered_does_not_count_as_speed():
    clock = Clock()
    backlog = Backlog(clock)
    backlog.begin(100)
    clock.now_s += 5
    backlog.end(50, answered=False)
    backlog.end(10, answered=True)
    assert backlog.expected_s(0) == pytest.approx(40 / 2)


def test_a_request_that_stalled_alone_turns_nobody_away_once_all_is_well_again():
    clock = Clock()
    backlog = Backlog(clock)
    backlog.begin(1)
    clock.now_s += 12
    backlog.end(1, answered=True)
    backlog.begin(1)
    clock.now_s += 0.05
    backlog.end(1, answered=True)
    backlog.begin(1)
    assert backlog.expected_s(1) == 0


def test_a_stall_turns_nobody_away_whom_the_pace_of_before_would_answer():
    clock = Clock()
    backlog = Backlog(clock)
    for _ in range(400):
        backlog.begin(1)
        clock.now_s += 0.03
        backlog.end(1, answered=True)
        clock.now_s += 0.02
    backlog.begin(100)
    clock.now_s += 5
    backlog.end(1, answered=True)
    assert backlog.expected_s(1) == pytest.approx(100 / (301 / 20), rel=0.02)
