"""A cluster of its own for commands that join one, as people start it."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.e2e.command import run, start, wait_until
from tests.processes import command_line, living

RAY = Path(sys.executable).parent / "ray"


@dataclass(frozen=True)
class Cluster:
    """A running cluster.

    Attributes:
        jobs_at: Where it takes jobs.
        joined: Variables with which a command joins it.
        folder: Its own; its processes name it.
    """

    jobs_at: str
    joined: dict[str, str]
    folder: Path

    def nodes(self) -> int:
        """Count its nodes, the head among them."""
        return sum("raylet/raylet " in command_line(pid) for pid in living(str(self.folder)))

    def submit(self, folder: Path, *command: object, **environment: str) -> subprocess.CompletedProcess[str]:
        """Submit a command from a folder and wait for its end."""
        return run(*self._submitting(folder), *command, **(self.joined | environment))

    def start_submit(self, folder: Path, *command: object) -> subprocess.Popen[str]:
        """Submit a command from a folder."""
        return start(*self._submitting(folder), *command, **self.joined)

    def _submitting(self, folder: Path) -> list[object]:
        return ["submit", "--address", self.jobs_at, "--working-dir", folder, "--json"]

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
                found.extend(node_ids(pid))
            return bool(found)

        wait_until(look, timeout_s=180, what="a node to start")
        node = Node(process, found[0])
        wait_until(lambda: self._has_joined(node), timeout_s=180, what="a node to join")
        return node

    def _has_joined(self, node: Node) -> bool:
        return node.node_id in self._ask_head("print([i.hex() for i in client.get_all_node_info()])")

    def drain(self, node: Node, *, deadline_s: int = 60) -> None:
        """Have Ray know that a node is about to be taken away, as a cloud's autoscaler does of a spot machine."""
        command = drain_command(self.joined["RAY_ADDRESS"], node.node_id, deadline_s=deadline_s)
        environment = {**os.environ, **self.joined}
        subprocess.run(list(map(str, command)), env=environment, check=True, capture_output=True, timeout=60)

    def _ask_head(self, code: str) -> str:
        client = f"from ray._raylet import GcsClient; client = GcsClient(address={self.joined['RAY_ADDRESS']!r}); "
        environment = {**os.environ, **self.joined}
        asked = [sys.executable, "-c", client + code]
        return subprocess.run(asked, env=environment, check=True, capture_output=True, text=True, timeout=60).stdout


def node_ids(pid: int) -> list[str]:
    """Return the id of the node that a process of Ray belongs to, if its command line has one."""
    return re.findall(r"--node_id=([0-9a-f]+)", command_line(pid))


def drain_command(address: str, node_id: str, *, deadline_s: int = 60) -> list[object]:
    """Spell how the head at an address is told that a node is about to be taken away, as a spot machine is."""
    command: list[object] = [RAY, "drain-node", "--address", address, "--node-id", node_id]
    command += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot"]
    return [*command, "--deadline-remaining-seconds", deadline_s]


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


def _autoscaling(address: str, most_nodes: int) -> dict[str, object]:
    """Describe nodes of two CPUs, as processes on this machine, that leave half a minute after their work has ended."""
    provider = {"type": "fake_multinode", "use_node_id_as_ip": True, "gcs_address": address}
    provider |= {"disable_node_updaters": True, "disable_launch_config_check": True}
    lists = ["cluster_synced_files", "file_mounts_sync_continuously", "initialization_commands", "setup_commands"]
    lists += ["head_setup_commands", "worker_setup_commands", "head_start_ray_commands", "worker_start_ray_commands"]
    types = {
        "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
        "pair": {
            "resources": {"CPU": 2, "object_store_memory": 200_000_000},
            "node_config": {},
            "min_workers": 0,
            "max_workers": most_nodes,
        },
    }
    return {
        **{name: [] for name in lists},
        **{name: {} for name in ("auth", "docker", "file_mounts")},
        "cluster_name": "grows",
        "max_workers": most_nodes,
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": 0.5,
        "provider": provider,
        "available_node_types": types,
        "head_node_type": "ray.head.default",
    }


def _is_gone(folder: str) -> bool:
    # Workers have names that Ray gives them, end a moment after those that started them, and write until then.
    for pid in living(folder):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)
    return not living(folder) and not os.path.exists(folder)


@contextmanager
def running_cluster(*, head_cpus: int = 2, grows_to: int = 0) -> Iterator[Cluster]:
    """Start a cluster of one node in a folder of its own, and kill it by pid, with those that were added.

    One that grows begins without CPUs, and its autoscaler starts up to so many nodes.
    """
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
        command = [RAY, "start", "--head", f"--port={port}", "--dashboard-host=127.0.0.1"]
        command += [f"--num-cpus={0 if grows_to else head_cpus}"]
        settings = {"RAY_idle_worker_killing_time_threshold_ms": "60000"}
        if grows_to:
            config = Path(folder) / "autoscaling.json"
            config.write_text(json.dumps(_autoscaling(joined["RAY_ADDRESS"], grows_to)))
            command += [f"--autoscaling-config={config}", "--node-ip-address=127.0.0.1"]
            settings |= {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "2"}
        command += [f"--dashboard-port={dashboard}", "--object-store-memory=400000000", "--disable-usage-stats"]
        # Left to Ray it is the same for all clusters, and of two on one machine the second then takes no jobs.
        command += [f"--dashboard-agent-listen-port={free_port()}"]
        try:
            subprocess.run(
                [*map(str, command), f"--temp-dir={folder}/r"],
                env={**os.environ, **joined, "RAY_ADDRESS": "", **settings},
                check=True,
                capture_output=True,
                timeout=120,
            )
            yield Cluster(f"http://127.0.0.1:{dashboard}", joined, Path(folder))
        finally:
            wait_until(lambda: _is_gone(folder), timeout_s=60, what="the cluster and its folder to go")
