"""Whether the machines of a cluster reach one another: a connection between every two, tried before work relies on it.

What computes together on several machines talks on ports of the system's choice, which a firewall may close while all
of Ray's own are open; and gloo and NCCL say so after minutes, if at all.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ray_trash.cluster.interface import bind_this_process
from ray_trash.cluster.machines import Machine, living_machines
from ray_trash.terminal.text import last_line

CONNECT_TIMEOUT_S = 10.0
"""How long a connection and its few bytes may take: several round trips of any network, lost packets included."""
LISTENING_S = 60.0
"""How long a machine waits for the others, who may still be starting."""
START_TIMEOUT_S = 30.0
"""How long a process for this may take to start on every machine."""
SENT_BYTES = 2**16
"""Many packets: one that is too large for the way is lost without a word, and small ones pass."""
_AT_ONCE = 16
_ANSWER = b"1"


@dataclass(frozen=True)
class Listener:
    """Where a process waits for others of its kind."""

    machine: str
    address: str
    port: int


@dataclass(frozen=True)
class Gap:
    """A connection between two machines that cannot be made; no port where no process starts on `machine`."""

    from_machine: str
    machine: str
    address: str
    port: int | None
    reason: str

    def line(self) -> str:
        """Say what is wrong, where, and what to do."""
        if self.port is None:
            return f"{self.machine} ({self.address}): {self.reason}"
        return (
            f"{self.from_machine} does not reach {self.machine} at {self.address}, port {self.port}: {self.reason}; "
            "let machines of the cluster reach one another on every port, or name the interface that does in "
            "GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME of their `ray start`"
        )


def listen() -> Listener:
    """Wait on the interface that this process is bound to for others, for `LISTENING_S`."""
    address, is_own = bind_this_process()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    server = socket.create_server((address if is_own else "", 0), family=family, backlog=socket.SOMAXCONN)
    threading.Thread(target=_answer, args=(server,), name="reach", daemon=True).start()
    return Listener(socket.gethostname(), address, server.getsockname()[1])


def try_all(listeners: Sequence[Listener]) -> list[Gap]:
    """Try to connect from this process to each of some others, and list those that cannot be reached."""
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        return [gap for gap in threads.map(_try, listeners) if gap is not None]


def _answer(server: socket.socket) -> None:
    with server:
        server.settimeout(LISTENING_S)
        try:
            while True:
                connection, _ = server.accept()
                threading.Thread(target=_receive, args=(connection,), name="reach", daemon=True).start()
        except TimeoutError:
            return


def _receive(connection: socket.socket) -> None:
    left = SENT_BYTES
    with connection:
        connection.settimeout(CONNECT_TIMEOUT_S)
        try:
            while left and (received := len(connection.recv(left))):
                left -= received
            connection.sendall(_ANSWER)
        except OSError:
            return  # whoever connected says so


def _try(listener: Listener) -> Gap | None:
    def gap(reason: str) -> Gap:
        return Gap(socket.gethostname(), listener.machine, listener.address, listener.port, reason)

    try:
        connection = socket.create_connection((listener.address, listener.port), timeout=CONNECT_TIMEOUT_S)
    except OSError as error:
        return gap(_reason(error))
    with connection:
        try:
            connection.sendall(bytes(SENT_BYTES))
            if connection.recv(1) != _ANSWER:
                return gap("something else answers there")
        except OSError as error:
            return gap(
                f"{_reason(error)} to {SENT_BYTES // 1024} KiB, though a connection was made, as where the MTU is "
                "smaller on the way"
            )
    return None


def _reason(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {CONNECT_TIMEOUT_S:g} s"
    return error.strerror or str(error)


def gaps_between_machines() -> list[Gap]:
    """Try a connection between every two machines of the connected cluster, its head included; takes a minute at most.

    Returns:
        What cannot be reached; nothing where all is well, or where there is one machine.
    """
    machines = living_machines()
    if len(machines) < 2:
        return []
    actors = [_start_on(machine) for machine in machines]
    listening = _answers([actor.listen.remote() for actor in actors], START_TIMEOUT_S, machines)
    there = [found for found in listening if isinstance(found, Listener)]
    tried = _answers([actor.try_all.remote(there) for actor in actors], 2 * CONNECT_TIMEOUT_S, machines)
    gaps = [found for found in listening if isinstance(found, Gap)]
    for reference, found in zip(listening, tried, strict=True):
        if isinstance(reference, Listener):
            gaps += [found] if isinstance(found, Gap) else found
    for actor in actors:
        ray.kill(actor)
    return gaps


class _Prober:
    """A process on a machine, for what has to be tried from there."""

    def listen(self) -> Listener:
        return listen()

    def try_all(self, listeners: list[Listener]) -> list[Gap]:
        return try_all(listeners)


def _start_on(machine: Machine) -> Any:
    there = NodeAffinitySchedulingStrategy(machine.node_id, soft=False)
    return ray.remote(_Prober).options(num_cpus=0, scheduling_strategy=there).remote()


def _answers(references: list[Any], timeout_s: float, machines: Sequence[Machine]) -> list[Any]:
    """Collect what arrives in time, in order; a `Gap` stands for what does not."""
    ray.wait(references, num_returns=len(references), timeout=timeout_s)
    found: list[Any] = []
    for reference, machine in zip(references, machines, strict=True):
        try:
            found.append(ray.get(reference, timeout=0))
        except (GetTimeoutError, RayError) as error:
            late = f"a process there does not answer within {timeout_s:g} s"
            reason = late if isinstance(error, GetTimeoutError) else f"no process starts there: {last_line(error)}"
            found.append(Gap("", machine.name, machine.address, None, reason))
    return found
