"""Processes of this machine, as tests look for them."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterable

import psutil


def loaded_by(*modules: str) -> set[str]:
    """Return the names of all that a new process has loaded once it has imported some modules."""
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    command = [sys.executable, "-W", "ignore", "-c", code]
    return set(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=300).stdout.split())


def living(word: str = "", *, session: int | None = None, below: int | None = None) -> list[int]:
    """List the processes whose command line has a word.

    Args:
        word: Ray names its processes after what they run, as `ray::ServeReplica`.
        session: Only those of this session; they stay in it when whoever started them has gone.
        below: Only those that this process started, and those that they started.
    """
    found = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for pid in psutil.pids() if below is None else _descendants(below):
            with contextlib.suppress(ProcessLookupError, psutil.Error):
                if session is None or os.getsid(pid) == session:
                    process = psutil.Process(pid)
                    if process.status() != psutil.STATUS_ZOMBIE and word in " ".join(process.cmdline()):
                        found.append(pid)
    return sorted(found)


def _descendants(pid: int) -> Iterable[int]:
    return [process.pid for process in psutil.Process(pid).children(recursive=True)]


def command_line(pid: int) -> str:
    """Return a process's command line; an ended one has none."""
    with contextlib.suppress(psutil.Error):
        return " ".join(psutil.Process(pid).cmdline()).strip("\0 ")
    return ""
