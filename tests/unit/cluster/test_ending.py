"""Processes that end while a thread of theirs waits."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from ray_trash.cluster.ending import stop_signals

SCRIPT = """
import atexit, sys, time
from ray_trash.cluster.ending import exit_process, start_thread, threads_left
atexit.register(lambda: print("in good order", flush=True))
thread = start_thread(lambda: time.sleep({seconds}), name="waiting")
if {seconds} == 0:
    thread.join()
print(threads_left())
exit_process(143)
"""


@pytest.mark.parametrize(("seconds", "said"), [(0, "False\nin good order\n"), (600, "True\n")])
def test_a_process_ends_at_once_with_its_own_exit_code_where_a_thread_still_waits(seconds: int, said: str) -> None:
    script = SCRIPT.format(seconds=seconds)
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (143, said), ended.stderr


@pytest.mark.parametrize(("handler", "is_heard"), [(signal.SIG_IGN, False), (signal.SIG_DFL, True)])
def test_a_command_outlives_its_terminal_only_where_it_was_started_to(
    handler: signal.Handlers, is_heard: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal, "getsignal", lambda _: handler)
    assert (signal.SIGHUP in stop_signals()) == is_heard
    assert {signal.SIGTERM, signal.SIGINT} <= set(stop_signals())
