"""Processes that end while a thread of theirs waits."""

from __future__ import annotations

import subprocess
import sys

import pytest

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
