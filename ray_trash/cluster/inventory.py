"""What there is to compute on: the machines of a cluster, or this one as a Ray that is started here would count it."""

from __future__ import annotations

import os
from dataclasses import dataclass

import ray
from ray._private.resource_and_label_spec import ResourceAndLabelSpec

from ray_trash.cluster.machines import Machine, living_machines, machine_of, resources_of
from ray_trash.cluster.shares import cpu_quota


@dataclass(frozen=True)
class Inventory:
    """All machines that are alive; `cluster` is where they were asked for, empty for this machine without Ray."""

    cluster: str
    machines: tuple[Machine, ...]

    @property
    def resources(self) -> dict[str, float]:
        """Totals as `ray.cluster_resources()` gives them."""
        return resources_of(self.machines)

    @property
    def n_for_work(self) -> int:
        """How many machines have CPUs."""
        return sum(machine.cpus > 0 for machine in self.machines)


def inventory_of_cluster() -> Inventory:
    """List the machines of the connected cluster."""
    return Inventory(ray.get_runtime_context().gcs_address, tuple(living_machines()))


def inventory_here() -> Inventory:
    """Count this machine as `ray_session` would start it, without starting anything."""
    spec = ResourceAndLabelSpec(num_cpus=1 if cpu_quota() < 1 else None).resolve(is_head=True)
    return Inventory("", (machine_of(os.uname().nodename, spec.to_resource_dict()),))
