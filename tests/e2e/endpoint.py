"""The endpoint as a child process."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.e2e.command import start, wait_until

START_TIMEOUT_S = 240
LOADING = (b".__init__", b".initialize_and_get_metadata")


@dataclass(frozen=True)
class Endpoint:
    """A running endpoint."""

    child: subprocess.Popen[str]
    url: str
    said: list[str]

    def replica_pids(self) -> list[int]:
        """Find the processes that answer: Ray names them after the deployment."""
        session = os.getsid(self.child.pid)
        return sorted(pid for pid in processes_of(session) if b"ServeReplica" in command_line(pid))

    def answering_pids(self) -> list[int]:
        """Find the replicas that have loaded: until then their processes are named after the method that loads."""

        def look() -> set[int]:
            return {pid for pid in self.replica_pids() if not command_line(pid).rstrip(b"\0 ").endswith(LOADING)}

        first = look()
        # Between two of these methods the name is that of a loaded one for a moment.
        time.sleep(0.3)
        return sorted(first & look())

    def model_id(self) -> str:
        return str(httpx.get(f"{self.url}/v1/model").json()["id"])


def processes_of(session: int) -> list[int]:
    """List the living processes of a session."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ProcessLookupError):
            if folder.name.isdigit() and os.getsid(int(folder.name)) == session:
                state = (folder / "stat").read_text().split(") ")[1][0]
                found += [int(folder.name)] if state != "Z" else []
    return found


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@contextlib.contextmanager
def endpoint(*arguments: object, **environment: str) -> Iterator[Endpoint]:
    """Run `ray-trash serve` until the block ends. Ready when this yields."""
    child = start("serve", *arguments, "--port", 0, **environment)
    session = os.getsid(child.pid)
    said: list[str] = []
    assert child.stderr is not None
    reader = threading.Thread(target=lambda stream: said.extend(iter(stream.readline, "")), args=(child.stderr,))
    reader.daemon = True
    reader.start()

    def is_ready() -> bool:
        assert child.poll() is None, "".join(said)
        return any(line.startswith("ready: ") for line in said)

    try:
        wait_until(is_ready, timeout_s=START_TIMEOUT_S, what="the endpoint")
        (url,) = re.findall(r"ready: (http://\S+) ", "".join(said))
        yield Endpoint(child, url, said)
    finally:
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(timeout=20)
        if child.poll() is None:
            child.kill()
            child.wait()
        deadline_s = time.monotonic() + 15
        while processes_of(session) and time.monotonic() < deadline_s:
            time.sleep(0.1)
        left = {pid: command_line(pid) for pid in processes_of(session)}
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert not left, left
