"""Who can get at Ray on this machine: its token, what listens beyond loopback, and proxies in between."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from ray_trash.doctor.finding import Finding
from ray_trash.terminal.text import listed

_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")
_SERVERS_OF_RAY = {"dashboard/dashboard.py": "dashboard, which runs jobs", "ray.util.client.server": "Ray Client"}
"""Part of a command line, and what it is: those that only their own machine should reach."""


@dataclass(frozen=True)
class Listener:
    """A process that listens beyond loopback."""

    process: str
    address: str
    port: int

    @property
    def said(self) -> str:
        """Who, and where."""
        return f"{self.process} at {f'[{self.address}]' if ':' in self.address else self.address}:{self.port}"


def check_token(environment: Mapping[str, str]) -> Finding:
    """Judge the token of clusters of this user: whoever has it runs code as this user."""
    if environment.get("RAY_AUTH_MODE") == "disabled":
        advice = "unset RAY_AUTH_MODE, or set it to token, before `ray start` and before commands"
        return Finding("token", "warning", "none (RAY_AUTH_MODE=disabled): whoever reaches Ray runs code", advice)
    if environment.get("RAY_AUTH_TOKEN"):
        return Finding("token", "ok", "in the environment (RAY_AUTH_TOKEN)")
    named = environment.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named or os.path.expanduser("~/.ray/auth_token"))
    try:
        about = path.stat()
        is_empty = not path.read_text().strip()
    except FileNotFoundError:
        if named:
            return Finding("token", "problem", f"RAY_AUTH_TOKEN_PATH={named}: no such file", "name the cluster's token")
        return Finding("token", "ok", f"none yet; the first start of Ray makes {path}, for its user alone")
    except OSError as error:
        return Finding("token", "problem", f"{path}: cannot be read: {error.strerror}", f"chown it: chown $USER {path}")
    mode = about.st_mode & 0o777
    if mode & 0o077:
        advice = f"rm {path}: the next start makes another one; start clusters that know this one again"
        return Finding(
            "token", "problem", f"{path} has mode {mode:04o}: other users of this machine can read it", advice
        )
    if is_empty:
        return Finding("token", "problem", f"{path} is empty", f"rm {path}: the next start makes another one")
    return Finding("token", "ok", f"{path}, mode {mode:04o}")


def check_proxies(environment: Mapping[str, str], machines: Sequence[str]) -> Finding:
    """Judge whether what Ray's parts say to one another, at these addresses, would go through a proxy."""
    proxies = [name for name in _PROXIES if environment.get(name) or environment.get(name.upper())]
    if not proxies:
        return Finding("proxy", "ok", "none")
    excepted = environment.get("no_proxy") or environment.get("NO_PROXY") or ""
    names = {name.strip() for name in excepted.split(",")}
    through = [address for address in machines if not _is_excepted(address, names)]
    if through:
        advice = f"export no_proxy=$no_proxy,{','.join(through[:8])} before `ray start` and before commands"
        return Finding(
            "proxy", "warning", f"{listed(proxies)} also for machines of the cluster: {listed(through)}", advice
        )
    return Finding("proxy", "ok", f"{listed(proxies)}, not for machines of the cluster")


def check_listeners(found: Iterable[Listener]) -> Finding:
    """Judge what listens beyond loopback of a Ray that was started here, which nobody else has to reach."""
    said = [listener.said for listener in found]
    if said:
        advice = "whoever reaches these ports needs the token; let a firewall close them"
        return Finding("listeners", "problem", f"beyond loopback: {listed(said)}", advice)
    return Finding("listeners", "ok", "nothing of Ray listens beyond loopback")


def check_servers(found: Iterable[tuple[str, Listener]]) -> Finding:
    """Judge which servers of a cluster, by machine, are open to other machines though they need not be."""
    said = [f"{listener.said} on {machine}" for machine, listener in found]
    if said:
        advice = "start the head with --dashboard-host=127.0.0.1 and without Ray Client; reach it through SSH"
        return Finding("listeners", "warning", f"open to other machines: {listed(said)}", advice)
    return Finding("listeners", "ok", "the dashboard and Ray Client are not open to other machines")


def listeners_of(processes: Iterable[psutil.Process]) -> list[Listener]:
    """List what processes listen on beyond loopback; one that has ended or is another user's has nothing."""
    found = []
    for process in processes:
        try:
            name = _name_of(process)
            sockets = process.net_connections("inet")
        except psutil.Error:
            continue
        found += [
            Listener(name, one.laddr.ip, one.laddr.port)
            for one in sockets
            if one.status == psutil.CONN_LISTEN and not _is_loopback(one.laddr.ip)
        ]
    return sorted(set(found), key=lambda one: (one.process, one.port))


def own_listeners() -> list[Listener]:
    """List what this process and those below it listen on beyond loopback."""
    own = psutil.Process()
    return listeners_of([own, *own.children(recursive=True)])


def servers_here() -> list[Listener]:
    """List the servers of Ray on this machine that only it should reach, as far as other machines can."""
    servers = []
    for process in psutil.process_iter():
        try:
            command = " ".join(process.cmdline())
        except psutil.Error:
            continue
        if any(part in command for part in _SERVERS_OF_RAY):
            servers.append(process)
    return listeners_of(servers)


def _name_of(process: psutil.Process) -> str:
    command = process.cmdline()
    for part, what in _SERVERS_OF_RAY.items():
        if any(part in word for word in command):
            return what
    return command[0].split()[0] if command and command[0].startswith("ray::") else str(process.name())


def _is_loopback(address: str) -> bool:
    # A socket for both families at 127.0.0.1 is told as ::ffff:127.0.0.1.
    parsed = ipaddress.ip_address(address)
    return (getattr(parsed, "ipv4_mapped", None) or parsed).is_loopback


def _is_excepted(address: str, names: set[str]) -> bool:
    if "*" in names or address in names:
        return True
    for name in names:
        try:
            if "/" in name and ipaddress.ip_address(address) in ipaddress.ip_network(name, strict=False):
                return True
        except ValueError:
            continue
    return False
