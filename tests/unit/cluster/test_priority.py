"""Work behind others takes what they leave, and leaves its own process as it was."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ray_trash.cluster.priority import behind_others, in_turn

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


def seconds_to_enter(folder: Path, *, at_once: int, timeout_s: float) -> float:
    began_s = time.monotonic()
    with in_turn(folder, at_once=at_once, timeout_s=timeout_s):
        return time.monotonic() - began_s


def test_who_finds_every_place_taken_waits_for_one_and_no_longer_than_it_may(tmp_path: Path) -> None:
    folder, over = tmp_path / "places", threading.Event()
    with in_turn(folder, at_once=2, timeout_s=0):
        assert seconds_to_enter(folder, at_once=2, timeout_s=60) < 0.1
        assert seconds_to_enter(folder, at_once=1, timeout_s=0.3) >= 0.3

        def wait() -> None:
            seconds_to_enter(folder, at_once=1, timeout_s=60)
            over.set()

        waiting = threading.Thread(target=wait)
        waiting.start()
        assert not over.wait(0.3)
    assert over.wait(10)
    waiting.join()


def test_a_process_that_dies_leaves_its_place(tmp_path: Path) -> None:
    script = (
        "import pathlib, sys, time; from ray_trash.cluster.priority import in_turn\n"
        "with in_turn(pathlib.Path(sys.argv[1]), at_once=1, timeout_s=0): print(flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE) as holding:
        assert holding.stdout is not None
        holding.stdout.readline()
        assert seconds_to_enter(tmp_path, at_once=1, timeout_s=0.3) >= 0.3
        holding.kill()
        holding.wait()
        assert seconds_to_enter(tmp_path, at_once=1, timeout_s=60) < 0.2


def test_where_no_folder_can_be_nobody_waits(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert seconds_to_enter(tmp_path / "file", at_once=1, timeout_s=60) < 0.1
