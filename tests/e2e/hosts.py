"""Hosts on this machine, each with an address, a name, a temporary folder and shared memory of its own, on one switch.

They are namespaces of the kernel, which root may make. As Debian writes it, a host's own name is a loopback address.
What lies outside `Host.folder` is the same on all of them, as a shared filesystem is.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from tests.e2e.cluster import RAY
from tests.e2e.command import RUN_TIMEOUT_S, wait_until

HEAD_PORT = 6379
_NETWORK = "10.99.0"
"""No other network is reached from the hosts, so any number of switches may have it."""
_OBJECT_STORE_BYTES = 200_000_000


def missing() -> str | None:
    """Say what this machine lacks for hosts; None where nothing."""
    lacking = [tool for tool in ("ip", "bridge", "unshare", "nsenter") if shutil.which(tool) is None]
    if lacking:
        return f"hosts need {', '.join(lacking)}"
    if os.getuid() != 0:
        return "hosts need root"
    name = f"rt{os.getpid()}-try"
    for command in (
        ["ip", "netns", "add", name],
        ["ip", "-n", name, "link", "add", "switch", "type", "bridge"],
        ["ip", "-n", name, "link", "add", "port", "type", "veth", "peer", "name", "eth0"],
        ["unshare", "-m", "-u", "true"],
    ):
        tried = subprocess.run(command, capture_output=True, text=True, check=False)
        if tried.returncode:
            break
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    return f"hosts need `{' '.join(command)}`: {tried.stderr.strip()}" if tried.returncode else None


@dataclass(frozen=True)
class Host:
    """A host that is switched on.

    Attributes:
        folder: Its own; the same path shows another folder on every host.
        holder: A process that lives in it and does nothing.
        port: The end of its cable at the switch.
    """

    name: str
    address: str
    namespace: str
    switch: str
    port: str
    folder: Path
    holder: int
    environment: dict[str, str]

    def start(self, *command: object, **environment: str) -> subprocess.Popen[str]:
        """Start a command on this host."""
        return subprocess.Popen(
            ["nsenter", "-t", str(self.holder), "-m", "-u", "-n", *map(str, command)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **self.environment, **environment},
            start_new_session=True,
        )

    def run(
        self, *command: object, timeout_s: float = RUN_TIMEOUT_S, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on this host to its end."""
        child = self.start(*command, **environment)
        try:
            out, err = child.communicate(timeout=timeout_s)
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.communicate()
        return subprocess.CompletedProcess(child.args, child.returncode, out, err)

    def ray_trash(
        self, *arguments: object, timeout_s: float = RUN_TIMEOUT_S, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `ray-trash` on this host, joined to the cluster that it belongs to."""
        return self.run(sys.executable, "-m", "ray_trash", *arguments, timeout_s=timeout_s, **environment)

    def cut(self) -> None:
        """Pull the cable: what is sent is lost, and nobody is told."""
        _do("ip", "-n", self.switch, "link", "set", self.port, "down")

    def mend(self) -> None:
        """Plug the cable in again."""
        _do("ip", "-n", self.switch, "link", "set", self.port, "up")

    def isolate(self, on: bool = True) -> None:
        """Put a firewall between this host and others that are isolated; the rest reaches them all."""
        _do("bridge", "-n", self.switch, "link", "set", "dev", self.port, "isolated", "on" if on else "off")

    def readdress(self, address: str) -> None:
        """Give this host another address, as ADDRESS/BITS, in place of those it has."""
        _do("ip", "-n", self.namespace, "address", "flush", "dev", "eth0", "scope", "global")
        _do(
            "ip", "-n", self.namespace, "address", "add", address, "dev", "eth0", *(["nodad"] if ":" in address else [])
        )

    def swallow_packets(self, larger_than_bytes: int) -> None:
        """Lose larger packets on their way, without a word to who sends them; both ends need it."""
        # Otherwise the kernel hands on many packets as one, which no limit holds for.
        _do("ip", "-n", self.namespace, "link", "set", "dev", "eth0", "gso_max_segs", "1")
        _do("ip", "-n", self.switch, "link", "set", "dev", self.port, "mtu", str(larger_than_bytes))

    def slow_down(self, mbit_per_s: float) -> None:
        """Limit what this host receives."""
        limit = ["rate", f"{mbit_per_s:g}mbit", "burst", "64kb", "latency", "400ms"]
        _do("tc", "-n", self.switch, "qdisc", "replace", "dev", self.port, "root", "tbf", *limit)

    def pids(self) -> list[int]:
        """List the processes that run on it."""
        listed = subprocess.run(["ip", "netns", "pids", self.namespace], capture_output=True, text=True, check=False)
        return [int(pid) for pid in listed.stdout.split()]

    def stop(self) -> None:
        """Kill everything that runs on it; the host itself stays."""
        self._kill(keep={self.holder})

    def power_off(self) -> None:
        """Kill everything that runs on it."""
        self._kill(keep=set())

    def _kill(self, keep: set[int]) -> None:
        def gone() -> bool:
            # Again and again: one may have started another meanwhile.
            left = set(self.pids()) - keep
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not left

        wait_until(gone, timeout_s=30, what=f"the processes of {self.name} to end")


@contextmanager
def hosts(n: int, *, disk_mib: int | None = None) -> Iterator[list[Host]]:
    """Switch on some hosts, and off at the end; `disk_mib` limits what each one's folder holds."""
    mark = f"rt{os.getpid()}{secrets.token_hex(1)}"
    switch = f"{mark}-switch"
    with ExitStack() as ends, tempfile.TemporaryDirectory(prefix="rth", dir="/tmp") as root:
        # Without this, SIGTERM leaves the namespaces and all that runs in them.
        ends.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, _leave))
        token = Path(root) / "token"
        token.write_text(secrets.token_hex(32))
        token.chmod(0o600)
        _do("ip", "netns", "add", switch)
        ends.callback(_do, "ip", "netns", "del", switch)
        _do("ip", "-n", switch, "link", "add", "switch", "type", "bridge")
        _do("ip", "-n", switch, "link", "set", "switch", "up")
        yield [_switch_on(f"{mark}-{i}", switch, i, Path(root), disk_mib, ends) for i in range(1, n + 1)]


def _switch_on(namespace: str, switch: str, number: int, root: Path, disk_mib: int | None, ends: ExitStack) -> Host:
    name, address, port = f"machine-{number}", f"{_NETWORK}.{number}", f"port{number}"
    own, seen = root / name, root / "own"
    for folder in (own, seen):
        folder.mkdir(exist_ok=True)
    (root / f"{name}.hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {name}\n")
    _do("ip", "netns", "add", namespace)
    ends.callback(_do, "ip", "netns", "del", namespace)
    _do("ip", "link", "add", port, "netns", switch, "type", "veth", "peer", "name", "eth0", "netns", namespace)
    _do("ip", "-n", switch, "link", "set", port, "master", "switch", "up")
    _do("ip", "-n", namespace, "address", "add", f"{address}/24", "dev", "eth0")
    for interface in ("lo", "eth0"):
        _do("ip", "-n", namespace, "link", "set", interface, "up")
    disk = f"mount --bind {own} {seen}" if disk_mib is None else f"mount -t tmpfs -o size={disk_mib}m disk {seen}"
    script = (
        f"hostname {name} && mount --bind {root}/{name}.hosts /etc/hosts && {disk} && mkdir -p {seen}/home {seen}/tmp"
        " && mount -t tmpfs -o size=1g shm /dev/shm && echo on && exec sleep infinity"
    )
    inside = ["ip", "netns", "exec", namespace, "unshare", "-m", "-u", "sh", "-c", script]
    holder = subprocess.Popen(inside, stdout=subprocess.PIPE, text=True)
    environment = {
        "HOME": f"{seen}/home",
        "TMPDIR": f"{seen}/tmp",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "RAY_ADDRESS": f"{_NETWORK}.1:{HEAD_PORT}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": f"{root}/token",
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    host = Host(name, address, namespace, switch, port, seen, holder.pid, environment)
    ends.callback(holder.wait)
    ends.callback(host.power_off)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "on\n", f"{name} does not start"
    return host


@contextmanager
def cluster_of(machines: Sequence[Host], *, cpus: int = 1) -> Iterator[None]:
    """Start Ray: the head on the first host, without CPUs, and a node with `cpus` on each of the others."""
    head, *others = machines
    dashboard = ["--dashboard-host=127.0.0.1", f"--temp-dir={head.folder}/r"]
    _start_ray([head], "--head", f"--port={HEAD_PORT}", "--num-cpus=0", *dashboard)
    join(head, others, cpus=cpus)
    yield


def join(head: Host, others: Sequence[Host], *, cpus: int = 1) -> None:
    """Start a node with `cpus` on each of some hosts, in place of what runs there."""
    for host in others:
        host.stop()
    _start_ray(others, f"--address={head.address}:{HEAD_PORT}", f"--num-cpus={cpus}")


def _start_ray(machines: Sequence[Host], *arguments: str) -> None:
    common = ["--disable-usage-stats", f"--object-store-memory={_OBJECT_STORE_BYTES}"]
    starting = [
        host.start(RAY, "start", f"--node-ip-address={host.address}", *arguments, *common, RAY_ADDRESS="")
        for host in machines
    ]
    for host, child in zip(machines, starting, strict=True):
        out, err = child.communicate(timeout=180)
        assert child.returncode == 0, f"{host.name}: {out}{err}"


def _leave(number: int, frame: object) -> NoReturn:
    sys.exit(128 + number)


def _do(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
