"""A command whose streams are closed, or whose reader has gone, does its work all the same."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "ray_trash"]
SCRIPT = """
import ctypes, os, signal, sys, warnings
from ray_trash.terminal.streams import keep_stderr_for_people, open_closed_streams
open_closed_streams()
keep_stderr_for_people()
from ray_trash.terminal.say import Terminal
terminal = Terminal.stderr()
terminal.say("before")
ctypes.CDLL(None).perror(b"raw")
warnings.warn("for programmers", FutureWarning)
print("after", file=sys.stderr)
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text("name: some\ndata: {root: photos}\n")
    return path


@pytest.mark.parametrize(("closing", "code"), [("2>&-", 0), (">&-", 0), ("<&- >&- 2>&-", 0), ("| true", 0)])
def test_closed_streams_are_no_reason_to_fail(closing: str, code: int, config: Path) -> None:
    line = f"set -o pipefail; {' '.join(COMMAND)} config {config} {closing}"
    ended = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode in (code, 1 if "|" in closing else code)
    assert not ended.stderr


def test_a_mistake_is_told_by_the_exit_code_where_stderr_is_closed(config: Path) -> None:
    line = f"{' '.join(COMMAND)} config {config} --set train.epoch=1 2>&-"
    ended = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", "")


def test_only_python_writes_to_stderr_and_no_warnings() -> None:
    ended = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "before\nafter\n")


def test_a_crash_is_not_silent() -> None:
    script = SCRIPT + "os.kill(os.getpid(), signal.SIGSEGV)\n"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode < 0
    assert "Fatal Python error: Segmentation fault" in ended.stderr


def test_a_terminal_that_closes_ends_no_work() -> None:
    ours, theirs = pty.openpty()
    script = SCRIPT + "sys.stdin.readline()\nfor _ in range(3):\n    terminal.say('gone')\nsys.exit(7)\n"
    child = subprocess.Popen([sys.executable, "-c", script], stderr=theirs, stdin=subprocess.PIPE)
    os.close(theirs)
    seen = b""
    while b"after" not in seen:
        seen += os.read(ours, 1000)
    os.close(ours)
    child.communicate(b"\n", timeout=60)
    assert child.returncode == 7


@pytest.mark.parametrize(("term", "is_live"), [("dumb", False), ("xterm", True)])
def test_a_bar_is_for_terminals_that_can_be_overwritten(
    term: str, is_live: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray_trash.terminal.say import Terminal

    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert Terminal.stderr().is_live == is_live
