"""The `ray-trash` command as a child process, stopped by its own pid."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

RUN_TIMEOUT_S = 480


def start(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    """Start a command in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "ray_trash", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "RAY_TRASH_TRACEBACK": "1", **environment},
        start_new_session=True,
    )


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    child = start(*arguments, **environment)
    try:
        out, err = child.communicate(timeout=RUN_TIMEOUT_S)
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()
    return subprocess.CompletedProcess(child.args, child.returncode, out, err)


def wait_until(condition: Callable[[], bool], *, timeout_s: float, what: str) -> None:
    """Poll until a condition holds, in a fifth of a processor: what is waited for needs the rest."""
    deadline = time.monotonic() + timeout_s
    began = time.monotonic()
    while not condition():
        looked_at = time.monotonic()
        assert looked_at < deadline, f"waited {timeout_s} s for {what}"
        time.sleep(min(1.0, max(0.05, 4 * (looked_at - began))))
        began = time.monotonic()


def kill(child: subprocess.Popen[str]) -> None:
    """Kill a driver without a chance to clean up, and collect it."""
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
