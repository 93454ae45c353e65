"""The endpoint as a child process."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from tests.e2e.command import start, wait_until
from tests.processes import command_line, living

START_TIMEOUT_S = 240
LOADING = (".__init__", ".initialize_and_get_metadata")


@dataclass(frozen=True)
class Endpoint:
    """A running endpoint."""

    child: subprocess.Popen[str]
    url: str
    said: list[str]

    def events(self, name: str) -> list[dict[str, Any]]:
        """Return the events of a name that are in the log, oldest first."""
        return [event for event in events_in(self.said) if event["event"] == name]

    def replica_pids(self) -> list[int]:
        """Find the processes that answer: Ray names them after the deployment."""
        return living("ServeReplica", session=os.getsid(self.child.pid))

    def answering_pids(self) -> list[int]:
        """Find the replicas that have loaded: until then their processes are named after the method that loads."""

        def look() -> set[int]:
            return {pid for pid in self.replica_pids() if not command_line(pid).endswith(LOADING)}

        first = look()
        # Between two of these methods the name is that of a loaded one for a moment.
        time.sleep(0.3)
        return sorted(first & look())

    def model_id(self) -> str:
        return str(httpx.get(f"{self.url}/v1/model").json()["id"])


def events_in(lines: list[str]) -> list[dict[str, Any]]:
    """Return what a log says that is not written to a terminal."""
    return [json.loads(line) for line in list(lines) if line.startswith("{")]


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
        return any(event["event"] == "ready" for event in events_in(said))

    try:
        wait_until(is_ready, timeout_s=START_TIMEOUT_S, what="the endpoint")
        (url,) = (event["url"] for event in events_in(said) if event["event"] == "ready")
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
        while living(session=session) and time.monotonic() < deadline_s:
            time.sleep(0.1)
        left = {pid: command_line(pid) for pid in living(session=session)}
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert not left, left
