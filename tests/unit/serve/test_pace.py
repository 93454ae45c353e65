"""Whether a request can be answered in time is known from how long the ones before took."""

from __future__ import annotations

import pytest

from ray_trash.serve.pace import Pace


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_the_wait_is_what_is_waiting_over_what_is_done_in_a_second():
    clock = Clock()
    pace = Pace(clock)
    assert pace.expected_s(64) == 0
    pace.begin(100)
    for _ in range(10):
        clock.now_s += 1
        pace.end(5, answered=True)
    assert pace.waiting == 50
    assert pace.expected_s(10) == pytest.approx(60 / 5)


def test_nobody_is_turned_away_from_an_idle_endpoint_and_idle_time_does_not_slow_the_rate():
    clock = Clock()
    pace = Pace(clock)
    pace.begin(20)
    clock.now_s += 2
    pace.end(20, answered=True)
    clock.now_s += 1000
    assert pace.expected_s(64) == 0
    pace.begin(10)
    assert pace.expected_s(10) == pytest.approx(2)


def test_the_rate_follows_what_happens_now():
    clock = Clock()
    pace = Pace(clock)
    pace.begin(10_000)
    for _ in range(100):
        clock.now_s += 1
        pace.end(1, answered=True)
    for _ in range(100):
        clock.now_s += 1
        pace.end(50, answered=True)
    assert pace.expected_s(0) == pytest.approx(pace.waiting / 50, rel=0.1)


def test_what_was_not_answered_does_not_count_as_speed():
    clock = Clock()
    pace = Pace(clock)
    pace.begin(100)
    clock.now_s += 5
    pace.end(50, answered=False)
    pace.end(10, answered=True)
    assert pace.expected_s(0) == pytest.approx(40 / 2)


def test_a_request_that_stalled_alone_turns_nobody_away_once_all_is_well_again():
    clock = Clock()
    pace = Pace(clock)
    pace.begin(1)
    clock.now_s += 12
    pace.end(1, answered=True)
    pace.begin(1)
    clock.now_s += 0.05
    pace.end(1, answered=True)
    pace.begin(1)
    assert pace.expected_s(1) == 0
