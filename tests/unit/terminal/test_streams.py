"""A command whose streams are closed, or whose reader has gone, does its work all the same."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
import termios
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


def on_terminal(script: str, *, closes: bool, columns: int = 80) -> tuple[int, str]:
    """Run a script on a terminal, from which it reads a line once it is ready. Returns its exit code and stderr."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    child = subprocess.Popen([sys.executable, "-c", script], stderr=theirs, stdin=theirs)
    os.close(theirs)
    seen = b""
    while b"after" not in seen:
        seen += os.read(ours, 1000)
    if closes:
        os.close(ours)
    else:
        os.write(ours, b"\n")
        with contextlib.suppress(OSError):  # how a terminal says that nobody writes to it any more
            while more := os.read(ours, 1000):
                seen += more
        os.close(ours)
    return child.wait(timeout=60), seen.decode()


def test_a_terminal_that_closes_ends_no_work() -> None:
    script = SCRIPT + (
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "try:\n    sys.stdin.readline()\nexcept OSError:\n    pass\n"
        "for _ in range(3):\n    terminal.say('gone')\nsys.exit(7)\n"
    )
    assert on_terminal(script, closes=True)[0] == 7


@pytest.mark.parametrize("columns", [10, 80])
def test_a_bar_and_what_is_said_beside_it_share_a_terminal(columns: int) -> None:
    script = SCRIPT + (
        "from ray_trash.terminal.bar import Bar\nsys.stdin.readline()\n"
        "with Bar(terminal, total=3) as bar:\n"
        "    bar.advance(3)\n    terminal.say('beside')\n    print('python', file=sys.stderr)\n"
    )
    code, seen = on_terminal(script, closes=False, columns=columns)
    assert (code, "beside" in seen, "python" in seen) == (0, True, True), seen


@pytest.mark.parametrize(("term", "is_live"), [("dumb", False), ("xterm", True)])
def test_a_bar_is_for_terminals_that_can_be_overwritten(
    term: str, is_live: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray_trash.terminal.say import Terminal

    monkeypatch.setenv("TERM", term)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert Terminal.stderr().is_live == is_live
