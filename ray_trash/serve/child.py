"""An endpoint as a child process, for as long as a block runs."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from ray_trash.errors import ClusterError

START_TIMEOUT_S = 180
"""How long it may take until it answers, on a machine that has other things to do."""
STOP_TIMEOUT_S = 30


@dataclass(frozen=True)
class Child:
    """An endpoint that answers.

    Attributes:
        url: Its address.
        pid: Its process.
        said: The line in which it said so.
    """

    url: str
    pid: int
    said: str


@contextlib.contextmanager
def endpoint(checkpoint: str, *arguments: str) -> Iterator[Child]:
    """Run `ray-trash serve` on a free port until the block ends.

    Args:
        checkpoint: What it serves.
        arguments: More of the command line.

    Raises:
        ClusterError: It does not start; what it said is in the message.
    """
    command = [sys.executable, "-m", "ray_trash", "serve", checkpoint, "--port", "0", *arguments]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    said: list[str] = []
    reader = threading.Thread(target=lambda: said.extend(iter(child.stderr.readline, "")) if child.stderr else None)
    reader.daemon = True
    reader.start()
    try:
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while not (found := re.search(r"^ready: (http://\S+) .*", "".join(said), re.MULTILINE)):
            if child.poll() is not None or time.monotonic() > deadline_s:
                raise ClusterError(f"the endpoint did not start within {START_TIMEOUT_S} s: {''.join(said).strip()}")
            time.sleep(0.1)
        yield Child(found[1], child.pid, found[0])
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(timeout=STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
