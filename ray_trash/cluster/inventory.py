"""What there is to compute on: the machines of a cluster, or this one as a Ray that is started here would count it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray
from ray._private.resource_and_label_spec import ResourceAndLabelSpec

from ray_trash.cluster.shares import cpu_quota


@dataclass(frozen=True)
class Machine:
    """One machine, by its address, and what Ray gives out of it."""

    address: str
    cpus: float
    gpus: float
    memory_bytes: int
    object_store_bytes: int


@dataclass(frozen=True)
class Inventory:
    """All machines that are alive; `cluster` is where they were asked for, empty for this machine without Ray."""

    cluster: str
    machines: tuple[Machine, ...]

    @property
    def resources(self) -> dict[str, float]:
        """Totals as `ray.cluster_resources()` gives them."""
        return {
            "CPU": sum(machine.cpus for machine in self.machines),
            "GPU": sum(machine.gpus for machine in self.machines),
            "memory": float(sum(machine.memory_bytes for machine in self.machines)),
            "object_store_memory": float(sum(machine.object_store_bytes for machine in self.machines)),
        }

    @property
    def n_for_work(self) -> int:
        """How many machines have CPUs."""
        return sum(machine.cpus > 0 for machine in self.machines)


def inventory_of_cluster() -> Inventory:
    """List the machines of the connected cluster."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    machines = tuple(_machine(node["NodeManagerAddress"], node["Resources"]) for node in alive)
    return Inventory(ray.get_runtime_context().gcs_address, machines)


def inventory_here() -> Inventory:
    """Count this machine as `ray_session` would start it, without starting anything."""
    spec = ResourceAndLabelSpec(num_cpus=1 if cpu_quota() < 1 else None).resolve(is_head=True)
    return Inventory("", (_machine(os.uname().nodename, spec.to_resource_dict()),))


def _machine(address: str, resources: Mapping[str, Any]) -> Machine:
    return Machine(
        address,
        float(resources.get("CPU", 0)),
        float(resources.get("GPU", 0)),
        int(resources.get("memory", 0)),
        int(resources.get("object_store_memory", 0)),
    )
