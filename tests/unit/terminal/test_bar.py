from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from ray_trash.terminal.bar import Bar, byte_bar
from ray_trash.terminal.say import Terminal


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_lines_say_rate_and_time_left_and_starting_up_does_not_count(clock: list[float]) -> None:
    out = io.StringIO()
    with Bar(Terminal(Console(file=out)), total=1110, done=100) as bar:
        for now, photos in [(60.0, 50), (65.0, 100), (70.0, 100), (71.0, 20)]:
            clock[0] = now
            bar.advance(photos)
    assert out.getvalue().splitlines() == ["150/1110 photos", "350/1110 photos  20.0 photos/s  0:38 min left"]
    assert bar.rate.per_s == pytest.approx(20.0)


def test_a_terminal_gets_a_bar() -> None:
    out = io.StringIO()
    with Bar(Terminal(Console(file=out, force_terminal=True, width=80)), total=10, done=0) as bar:
        bar.advance(5)
    assert "5/10 photos" in out.getvalue()


def test_a_download_is_told_in_mebibytes_where_there_is_no_terminal_too(clock: list[float]) -> None:
    out, mib = io.StringIO(), 1 << 20
    with byte_bar(Terminal(Console(file=out)), "photos.zip") as on_bytes:
        for now, there, whole in [(1.0, mib // 2, 0), (3.0, 4 * mib, 0), (14.0, 15 * mib, 41 * mib)]:
            clock[0] = now
            on_bytes(there, whole)
    assert out.getvalue().splitlines() == [
        "downloading photos.zip: 4 MiB  2.0 MiB/s",
        "downloading photos.zip: 15/41 MiB  1.2 MiB/s  0:23 min left",
    ]


def test_there_is_no_rate_before_the_second_answer(clock: list[float]) -> None:
    with Bar(Terminal.silent(), total=10, done=0) as bar:
        bar.advance(5)
        assert bar.rate.per_s is None


def test_of_work_that_is_not_alike_no_rate_is_said(clock: list[float]) -> None:
    out = io.StringIO()
    with Bar(Terminal(Console(file=out)), total=4, noun="classifiers", doing="learning", alike=False) as bar:
        for now in (3.0, 14.0):
            clock[0] = now
            bar.advance(1)
    assert out.getvalue().splitlines() == ["learning 1/4 classifiers", "learning 2/4 classifiers"]


def test_a_bar_goes_on_to_the_next_work_and_says_so_where_there_is_no_terminal(clock: list[float]) -> None:
    out = io.StringIO()
    with Bar(Terminal(Console(file=out)), total=None, noun="files", doing="listing") as bar:
        for now, files in [(1.0, 30), (2.0, 30)]:
            clock[0] = now
            bar.advance(files)
        clock[0] = 12.0
        bar.show(1, total=9, doing="[learning]", note="by corners")
        clock[0] = 22.0
        bar.show(5, note="by corners")
    assert out.getvalue().splitlines() == [
        "listing 60 files  30.0 files/s",
        "[learning] 1/9 files  by corners",
        "[learning] 5/9 files  by corners  0:10 min left",
    ]
