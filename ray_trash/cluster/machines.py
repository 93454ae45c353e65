"""The machines of a cluster, and which can be counted on: they live, they answer, nobody takes them away."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import ray
from ray._private.state import state as cluster_state

ANSWER_TIMEOUT_S = 3.0
"""How long a machine may take to accept a connection: a lost packet is sent again after one second, then two."""


@dataclass(frozen=True)
class Machine:
    """One machine, or node as Ray calls it, and what Ray gives out of it; Ray's process listens at `address:port`.

    A machine on which Ray has not been started has neither a node's id nor a port; `name` is what it calls itself.
    """

    address: str
    cpus: float
    gpus: float
    memory_bytes: int = 0
    object_store_bytes: int = 0
    node_id: str = ""
    port: int = 0
    name: str = ""

    def __str__(self) -> str:
        """Return what to call it in messages."""
        return f"{self.name} ({self.address})"


def machine_of(
    address: str, resources: Mapping[str, Any], *, node_id: str = "", port: int = 0, name: str = ""
) -> Machine:
    """Describe a machine by what Ray calls its resources."""
    return Machine(
        address,
        float(resources.get("CPU", 0)),
        float(resources.get("GPU", 0)),
        int(resources.get("memory", 0)),
        int(resources.get("object_store_memory", 0)),
        node_id,
        port,
        name,
    )


def living_machines() -> list[Machine]:
    """List the machines that live as far as Ray knows, without CPUs or with."""
    return [
        machine_of(
            node["NodeManagerAddress"],
            node["Resources"],
            node_id=node["NodeID"],
            port=int(node["NodeManagerPort"]),
            name=node["NodeManagerHostname"],
        )
        for node in ray.nodes()
        if node["Alive"]
    ]


def draining_machines() -> set[str]:
    """Return the node ids of machines that somebody is taking away: `ray drain-node`, or a cloud its spot machines."""
    return set(cluster_state.get_draining_nodes())


def usable_machines(*, answers: Callable[[Machine], bool] | None = None) -> list[Machine]:
    """List the machines for work that live and are not being taken away.

    For half a minute after its end a machine still counts as living for Ray; `answers` tells who is really there.
    """
    leaving = draining_machines()
    working = [machine for machine in living_machines() if machine.cpus > 0 and machine.node_id not in leaving]
    if answers is None or not working:
        return working
    with ThreadPoolExecutor(min(32, len(working))) as pool:
        return [machine for machine, there in zip(working, pool.map(answers, working), strict=True) if there]


def is_listening(machine: Machine) -> bool:
    """Connect to a machine's process once."""
    try:
        socket.create_connection((machine.address, machine.port), timeout=ANSWER_TIMEOUT_S).close()
    except OSError:
        return False
    return True


def resources_of(machines: Sequence[Machine]) -> dict[str, float]:
    """Add up what machines have, as `ray.cluster_resources()` does."""
    return {
        "CPU": sum(machine.cpus for machine in machines),
        "GPU": sum(machine.gpus for machine in machines),
        "memory": float(sum(machine.memory_bytes for machine in machines)),
        "object_store_memory": float(sum(machine.object_store_bytes for machine in machines)),
    }
