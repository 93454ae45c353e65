"""The machines of the connected cluster that can be counted on: they live, they answer, nobody takes them away."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import ray
from ray._private.state import state as cluster_state

ANSWER_TIMEOUT_S = 3.0
"""How long a machine may take to accept a connection: a lost packet is sent again after one second, then two."""


@dataclass(frozen=True)
class Machine:
    """One machine, or node as Ray calls it: its process listens at `address:port`."""

    node_id: str
    address: str
    port: int
    cpus: float
    gpus: float


def draining_machines() -> set[str]:
    """Return the node ids of machines that somebody is taking away: `ray drain-node`, or a cloud its spot machines."""
    return set(cluster_state.get_draining_nodes())


def usable_machines(*, answers: Callable[[Machine], bool] | None = None) -> list[Machine]:
    """List the machines for work that live and are not being taken away.

    For half a minute after its end a machine still counts as living for Ray; `answers` tells who is really there.
    """
    leaving = draining_machines()
    found = [
        Machine(
            node["NodeID"],
            node["NodeManagerAddress"],
            int(node["NodeManagerPort"]),
            node["Resources"].get("CPU", 0.0),
            node["Resources"].get("GPU", 0.0),
        )
        for node in ray.nodes()
        if node["Alive"] and node["NodeID"] not in leaving
    ]
    working = [machine for machine in found if machine.cpus > 0]
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
    return {"CPU": sum(machine.cpus for machine in machines), "GPU": sum(machine.gpus for machine in machines)}
