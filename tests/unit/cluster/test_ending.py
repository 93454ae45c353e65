"""Processes that end while a thread of theirs waits."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import psutil
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


def test_a_process_with_threads_of_a_library_in_ray_ends_at_once_too() -> None:
    script = (
        "import atexit; from ray_trash.cluster.ending import exit_process, expect_threads_of_others; "
        "atexit.register(print, 'in good order'); expect_threads_of_others(); exit_process(143)"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (143, ""), ended.stderr


@pytest.mark.parametrize(("exit_code", "is_kept"), [(0, False), (143, False), (6, False), (1, True)])
def test_the_folder_of_a_session_goes_with_its_cluster_unless_its_logs_may_explain_something_unforeseen(
    exit_code: int, is_kept: bool, tmp_path: Path
) -> None:
    (tmp_path / "session_1" / "logs").mkdir(parents=True)
    (tmp_path / "session_latest").symlink_to(tmp_path / "session_1")
    script = (
        "from pathlib import Path; from ray_trash.cluster.ending import exit_process, remember_cluster_is_ours; "
        f"remember_cluster_is_ours(Path({str(tmp_path / 'session_1')!r})); exit_process({exit_code})"
    )
    ended = subprocess.run([sys.executable, "-c", script], timeout=60, check=False)
    assert ended.returncode == exit_code
    assert sorted(path.name for path in tmp_path.iterdir()) == (["session_1", "session_latest"] if is_kept else [])


UNFINISHED = """
import os, subprocess, sys
from pathlib import Path
from ray_trash.cluster.ending import begin_cluster, exit_process
folder = Path(sys.argv[1])
begin_cluster(folder)
(folder / f"session_1_{os.getpid()}").mkdir()
print(subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL).pid, flush=True)
exit_process(143)
"""


def test_what_there_is_of_a_ray_that_is_being_started_ends_at_once_with_the_command(tmp_path: Path) -> None:
    (tmp_path / "session_1_1").mkdir()  # another command's
    script = [sys.executable, "-c", UNFINISHED, str(tmp_path)]
    ended = subprocess.run(script, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 143, ended.stderr
    assert not psutil.pid_exists(int(ended.stdout)) or psutil.Process(int(ended.stdout)).status() == "zombie"
    assert [path.name for path in tmp_path.iterdir()] == ["session_1_1"]


@pytest.mark.parametrize(("handler", "is_heard"), [(signal.SIG_IGN, False), (signal.SIG_DFL, True)])
def test_a_command_outlives_its_terminal_only_where_it_was_started_to(
    handler: signal.Handlers, is_heard: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal, "getsignal", lambda _: handler)
    assert (signal.SIGHUP in stop_signals()) == is_heard
    assert {signal.SIGTERM, signal.SIGINT} <= set(stop_signals())
