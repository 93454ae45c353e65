"""An endpoint as a child process, for as long as a block runs."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ray_trash.errors import ClusterError

START_TIMEOUT_S = 180
"""How long it may take until it answers, on a machine that has other things to do."""
STOP_TIMEOUT_S = 30
_READY = re.compile(r"ready: (http://\S+) .*")


@dataclass(frozen=True)
class Child:
    """An endpoint that answers, its process, and the line in which it said so."""

    url: str
    pid: int
    said: str


@contextlib.contextmanager
def endpoint(*arguments: str) -> Iterator[Child]:
    """Run `ray-trash serve` with arguments, on a free port, until the block ends.

    Raises:
        ClusterError: It does not start; what it said is in the message.
    """
    command = [sys.executable, "-m", "ray_trash", "serve", *arguments, "--port", "0"]
    command += ["--set", "serve.log_format=text"]
    deadline_s = time.monotonic() + START_TIMEOUT_S
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "stderr").open("w") as log:
        child = subprocess.Popen(command, stderr=log, start_new_session=True)
        try:
            while not (found := _READY.search(said := Path(log.name).read_text())):
                if child.poll() is not None or time.monotonic() > deadline_s:
                    raise ClusterError(f"the endpoint did not start within {START_TIMEOUT_S} s: {said.strip()}")
                time.sleep(0.1)
            yield Child(found[1], child.pid, found[0])
        finally:
            child.terminate()
            try:
                child.wait(timeout=STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
