"""The command as a process: what it refuses before it does anything, and how it ends at a signal."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest


def test_a_python_without_docstrings_is_refused() -> None:
    command = [sys.executable, "-OO", "-m", "ray_trash", "--version"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert ended.stderr.startswith("error: python -OO or PYTHONOPTIMIZE=2: ")


DROPPED = """
import os, signal, time
from types import SimpleNamespace
from ray_trash import cli

number = signal.{number}

class Finalized:
    def __del__(self):
        os.kill(os.getpid(), number)

def in_a_finalizer(*_):
    Finalized()
    time.sleep(20)

def in_a_fork(*_):
    os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), number))
    if not os.fork():
        os._exit(0)
    time.sleep(20)

options = SimpleNamespace(action={where}, has_log=True, json=None, way_on="")
cli.build_parser = lambda: SimpleNamespace(parse_args=lambda _: options)
cli.command()
"""


@pytest.mark.parametrize("where", ["in_a_finalizer", "in_a_fork"])
@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_ends_a_command_wherever_it_comes(number: str, where: str) -> None:
    script = DROPPED.format(number=number, where=where)
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=15, check=False)
    assert ended.returncode == 128 + signal.Signals[number], ended.stderr
    assert ended.stderr == f"stopped by {number}.\n"
