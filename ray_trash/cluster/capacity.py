"""How many training workers a cluster can give, decided before anything starts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import ray

from ray_trash.config import TrainConfig
from ray_trash.errors import ClusterError

READING_CPUS = 0.5
"""CPUs left to Ray Data: workers that hold every CPU of a cluster starve the stream that feeds them."""
MIN_CPUS_PER_WORKER = 0.5
"""The smallest share of a CPU a worker is worth starting for."""
POLL_S = 1.0


@dataclass(frozen=True)
class WorkerPlan:
    """The workers of one training run.

    Attributes:
        workers: How many, one process each.
        device: Where each of them computes.
        cpus_per_worker: CPUs Ray reserves for each.
    """

    workers: int
    device: Literal["cpu", "cuda"]
    cpus_per_worker: float

    @property
    def resources_per_worker(self) -> dict[str, float]:
        """What Ray reserves for one worker."""
        gpus = {"GPU": 1.0} if self.device == "cuda" else {}
        return {"CPU": self.cpus_per_worker, **gpus}


def plan_workers(train: TrainConfig, resources: Mapping[str, float], *, machines: int) -> WorkerPlan:
    """Decide workers, device and CPU share from the config and the cluster's totals.

    Args:
        train: The `train` section.
        resources: Totals as `ray.cluster_resources()` gives them: `CPU`, `GPU`.
        machines: Machines with CPUs for work.

    Raises:
        ClusterError: The cluster has too few CPUs or GPUs; the message says asked and available.
    """
    cpus, gpus = resources.get("CPU", 0.0), int(resources.get("GPU", 0))
    device: Literal["cpu", "cuda"] = train.device if train.device != "auto" else "cuda" if gpus else "cpu"
    each = gpus if device == "cuda" else machines
    workers = train.workers if train.workers != "auto" else max(1, each)
    if device == "cuda" and workers > gpus:
        raise ClusterError(
            f"train.workers={train.workers} asks for {workers} GPU{'s' * (workers > 1)}; the cluster has {gpus}; "
            "ask for fewer workers or set train.device=cpu"
        )
    share = (cpus - READING_CPUS) / workers
    if train.cpus_per_worker != "auto":
        per_worker = train.cpus_per_worker
    else:
        per_worker = max(MIN_CPUS_PER_WORKER, min(1.0, int(share * 100) / 100))
    if share < per_worker:
        raise ClusterError(
            f"train.workers={train.workers} asks for {workers * per_worker:g} CPUs ({per_worker:g} for each of "
            f"{workers} workers) and {READING_CPUS:g} to read photos; the cluster has {cpus:g} CPUs; ask for at most "
            f"{max(0, int((cpus - READING_CPUS) / per_worker))} workers"
        )
    return WorkerPlan(workers, device, per_worker)


def wait_for_workers(train: TrainConfig, say: Callable[[str], None]) -> WorkerPlan:
    """Plan on the connected cluster, waiting up to `train.wait_for_workers_s` for it to scale.

    Raises:
        ClusterError: The cluster has too few CPUs or GPUs at the end of the wait.
    """
    deadline = time.monotonic() + train.wait_for_workers_s
    asked = False
    while True:
        try:
            machines = sum(1 for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) > 0)
            return plan_workers(train, ray.cluster_resources(), machines=machines)
        except ClusterError as error:
            if time.monotonic() >= deadline:
                if train.wait_for_workers_s:
                    raise ClusterError(f"{error} (waited {train.wait_for_workers_s:g} s for it to scale)") from error
                raise
            if not asked:
                say(f"waiting up to {train.wait_for_workers_s:g} s for the cluster to scale: {error}")
                _ask_autoscaler(train)
                asked = True
        time.sleep(min(POLL_S, max(0.0, deadline - time.monotonic())))


def _ask_autoscaler(train: TrainConfig) -> None:
    from ray.autoscaler.sdk import request_resources

    workers = train.workers if train.workers != "auto" else 1
    cpus = 1 if train.cpus_per_worker == "auto" else train.cpus_per_worker
    bundle: dict[str, float] = {"CPU": cpus, **({"GPU": 1} if train.device == "cuda" else {})}
    request_resources(bundles=[bundle] * workers)
