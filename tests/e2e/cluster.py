"""A cluster of its own for commands that join one, as people start it."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.command import run, start, wait_until
from tests.processes import living

RAY = Path(sys.executable).parent / "ray"


@dataclass(frozen=True)
class Cluster:
    """A running cluster.

    Attributes:
        jobs_at: Where it takes jobs.
        joined: Variables with which a command joins it.
    """

    jobs_at: str
    joined: dict[str, str]

    def submit(self, folder: Path, *command: object, **environment: str) -> subprocess.CompletedProcess[str]:
        """Submit a command from a folder and wait for its end."""
        return run(*self._submitting(folder), *command, **(self.joined | environment))

    def start_submit(self, folder: Path, *command: object) -> subprocess.Popen[str]:
        """Submit a command from a folder."""
        return start(*self._submitting(folder), *command, **self.joined)

    def _submitting(self, folder: Path) -> list[object]:
        return ["submit", "--address", self.jobs_at, "--working-dir", folder, "--json"]


def free_port() -> int:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        return int(holder.getsockname()[1])


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """Start a cluster of one node in a folder of its own, and kill it by pid."""
    # Ray's sockets live below this folder, and a socket's path must stay below 108 bytes.
    with tempfile.TemporaryDirectory(prefix="rt", dir="/tmp") as folder:
        token = Path(folder) / "token"
        token.write_text(secrets.token_hex(32))
        token.chmod(0o600)
        port, dashboard = free_port(), free_port()
        joined = {
            "RAY_ADDRESS": f"127.0.0.1:{port}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USAGE_STATS_ENABLED": "0",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        command = [RAY, "start", "--head", "--num-cpus=2", f"--port={port}", "--dashboard-host=127.0.0.1"]
        command += [f"--dashboard-port={dashboard}", "--object-store-memory=400000000", "--disable-usage-stats"]
        # Left to Ray it is the same for all clusters, and of two on one machine the second then takes no jobs.
        command += [f"--dashboard-agent-listen-port={free_port()}"]
        try:
            subprocess.run(
                [*map(str, command), f"--temp-dir={folder}/r"],
                env={**os.environ, **joined, "RAY_ADDRESS": "", "RAY_idle_worker_killing_time_threshold_ms": "60000"},
                check=True,
                capture_output=True,
                timeout=120,
            )
            yield Cluster(f"http://127.0.0.1:{dashboard}", joined)
        finally:
            for pid in living(folder):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not living(folder), timeout_s=30, what="the cluster's processes to end")
