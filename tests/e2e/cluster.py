"""A cluster of its own for commands that join one, as people start it."""

from __future__ import annotations

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.e2e.command import wait_until
from tests.processes import command_line, living

RAY = Path(sys.executable).parent / "ray"
NOT_YET = "No available agent to submit job"
"""What `ray job submit` says until the cluster's job agent has come up, seconds after `ray start` has ended."""


@dataclass(frozen=True)
class Cluster:
    """A running cluster.

    Attributes:
        jobs_at: Where it takes jobs.
        joined: Variables with which a command joins it.
    """

    jobs_at: str
    joined: dict[str, str]

    def add_node(self, *, cpus: float = 1) -> Node:
        """Start one more node, and wait until it has joined."""
        address = self.joined["RAY_ADDRESS"]
        command = [RAY, "start", "--block", f"--address={address}", f"--num-cpus={cpus:g}", "--disable-usage-stats"]
        command += ["--object-store-memory=200000000", f"--dashboard-agent-listen-port={free_port()}"]
        process = subprocess.Popen(
            list(map(str, command)),
            env={**os.environ, **self.joined, "RAY_ADDRESS": ""},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        found: list[str] = []

        def look() -> bool:
            assert process.poll() is None, "the node did not start"
            for pid in living("raylet/raylet", below=process.pid):
                found.extend(re.findall(r"--node_id=([0-9a-f]+)", command_line(pid)))
            return bool(found)

        wait_until(look, timeout_s=90, what="a node to start")
        node = Node(process, found[0])
        wait_until(lambda: self._has_joined(node), timeout_s=60, what="a node to join")
        return node

    def _has_joined(self, node: Node) -> bool:
        return node.node_id in self._ask_head("print([i.hex() for i in client.get_all_node_info()])")

    def drain(self, node: Node, *, deadline_s: int = 60) -> None:
        """Have Ray know that a node is about to be taken away, as a cloud's autoscaler does of a spot machine."""
        command = [RAY, "drain-node", "--address", self.joined["RAY_ADDRESS"], "--node-id", node.node_id]
        command += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot"]
        command += ["--deadline-remaining-seconds", str(deadline_s)]
        environment = {**os.environ, **self.joined}
        subprocess.run(list(map(str, command)), env=environment, check=True, capture_output=True, timeout=60)

    def _ask_head(self, code: str) -> str:
        client = f"from ray._raylet import GcsClient; client = GcsClient(address={self.joined['RAY_ADDRESS']!r}); "
        environment = {**os.environ, **self.joined}
        asked = [sys.executable, "-c", client + code]
        return subprocess.run(asked, env=environment, check=True, capture_output=True, text=True, timeout=60).stdout

    def submit(self, *command: object, **environment: str) -> subprocess.CompletedProcess[str]:
        """Submit a job and wait for its end."""
        deadline = time.monotonic() + 60
        while True:
            finished = subprocess.run(
                [str(RAY), "job", "submit", "--address", self.jobs_at, "--", *map(str, command)],
                env={**os.environ, **self.joined, **environment},
                capture_output=True,
                text=True,
                timeout=480,
                check=False,
            )
            if NOT_YET not in finished.stdout + finished.stderr:
                return finished
            assert time.monotonic() < deadline, f"waited 60 s for the job agent: {finished.stderr}"
            time.sleep(0.5)


@dataclass(frozen=True)
class Node:
    """A machine of its own as far as Ray can tell, which is a process here: `ray start --block`."""

    process: subprocess.Popen[bytes]
    node_id: str

    def power_off(self) -> None:
        """End all that runs there at once, without a word to anybody."""
        processes = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
        for process in processes:
            with suppress(psutil.Error):
                process.kill()
        self.process.wait()


def free_port() -> int:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        return int(holder.getsockname()[1])


@contextmanager
def running_cluster(*, head_cpus: int = 2) -> Iterator[Cluster]:
    """Start a cluster of one node in a folder of its own, and kill it by pid, with those that were added."""
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
        command = [RAY, "start", "--head", f"--num-cpus={head_cpus}", f"--port={port}", "--dashboard-host=127.0.0.1"]
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
