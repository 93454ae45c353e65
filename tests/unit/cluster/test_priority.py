"""Work behind others takes what they leave, and leaves its own process as it was."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from ray_trash.cluster.priority import behind_others

NICENESS = 3


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)


def niceness_of_a_thread() -> int:
    said: list[int] = []
    thread = threading.Thread(target=lambda: said.append(niceness()))
    thread.start()
    thread.join()
    return said[0]


@pytest.mark.skipif(sys.platform != "linux", reason="niceness is a thread's own on Linux only")
def test_work_and_the_threads_it_starts_let_others_go_first_and_nothing_else_does() -> None:
    before = niceness()
    inside = behind_others(lambda: (niceness(), niceness_of_a_thread()), niceness=NICENESS)
    assert inside == (before + NICENESS, before + NICENESS)
    assert (niceness(), niceness_of_a_thread()) == (before, before)


def test_what_it_raises_is_raised_where_it_is_waited_for() -> None:
    with pytest.raises(ZeroDivisionError):
        behind_others(lambda: 1 / 0, niceness=NICENESS)
