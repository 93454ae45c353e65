"""How many workers score, and where, decided before anything starts; a `ClusterError` says asked and available."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import ray

from ray_trash.cluster.capacity import Device, choose_device, machine_cpus
from ray_trash.cluster.shares import LEFT_TO_READING_CPUS, SCORE_WORKER_CPUS, SCORE_WORKER_MIN_CPUS
from ray_trash.errors import ClusterError, ConfigError

PHOTOS_PER_START = 64
"""Photos that are scored in the time that one more process takes to start: four seconds, at 224 pixels on one CPU."""
WAIT_FOR_ROOM_S = 20.0
"""How long resources that somebody else holds are waited for; Ray frees them with some delay."""
_POLL_S = 0.25


@dataclass(frozen=True)
class ScoringPlan:
    """Who scores: processes with a network each, their threads, what Ray reserves for each.

    Attributes:
        readers: Most tasks at a time that decode for GPUs.
    """

    workers: int
    device: Device
    n_threads: int
    cpus_per_worker: float
    readers: int

    def scaled_to(self, n_photos: int, *, views: int) -> ScoringPlan:
        """Return a plan without processes that would start for too few photos, each computed in so many views."""
        workers, readers = (max(1, n // PHOTOS_PER_START) for n in (n_photos * views, n_photos))
        return replace(self, workers=min(self.workers, workers), readers=min(self.readers, readers))


def plan_scoring(
    workers: int | None,
    device: Literal["auto", "cpu", "cuda"],
    cpus_of_machines: Sequence[float],
    gpus: int,
    *,
    one_thread_each: bool,
) -> ScoringPlan:
    """Decide workers and device.

    Args:
        workers: As asked. Default: one per GPU; where there is none, one per CPU if each has one thread, else one
            per machine.
        device: As asked; `auto` takes GPUs where the cluster has some.
        cpus_of_machines: CPUs of each machine of the cluster that has some.
        gpus: GPUs of the cluster.
        one_thread_each: Whether a worker computes with one thread, or all workers of a machine share its processors.

    Raises:
        ConfigError: `workers` is below 1.
        ClusterError: There are too few CPUs or GPUs.
    """
    if workers is not None and workers < 1:
        raise ConfigError(f"workers={workers}: give 1 or more")
    cpus, machines = sum(cpus_of_machines), max(1, len(cpus_of_machines))
    on = choose_device(device, {"GPU": gpus})
    if workers is None:
        workers = max(1, gpus if on == "cuda" else int(cpus) if one_thread_each else machines)
    _require_room(workers, on, cpus, gpus)
    readers = max(1, int(cpus))
    if one_thread_each or on == "cuda":
        return ScoringPlan(workers, on, 1, SCORE_WORKER_MIN_CPUS, readers)
    share = min(cpus_of_machines) / -(-workers // machines)
    reserved = max(SCORE_WORKER_MIN_CPUS, share - LEFT_TO_READING_CPUS)
    return ScoringPlan(workers, on, max(1, int(share)), reserved, readers)


def plan_scoring_here(
    workers: int | None, device: Literal["auto", "cpu", "cuda"], *, one_thread_each: bool
) -> ScoringPlan:
    """Decide workers and device for the connected cluster, as `plan_scoring` does."""
    gpus = int(ray.cluster_resources().get("GPU", 0))
    return plan_scoring(workers, device, machine_cpus(), gpus, one_thread_each=one_thread_each)


def wait_for_room(plan: ScoringPlan) -> None:
    """Give what others hold of the connected cluster some seconds to become free.

    Raises:
        ClusterError: It stays taken.
    """
    deadline = time.monotonic() + WAIT_FOR_ROOM_S
    while True:
        free = ray.available_resources()
        try:
            _require_room(plan.workers, plan.device, free.get("CPU", 0.0), int(free.get("GPU", 0)))
            return
        except ClusterError as error:
            if time.monotonic() >= deadline:
                raise ClusterError(f"{error} (others hold the rest of the cluster)") from error
        time.sleep(_POLL_S)


def _require_room(workers: int, device: Device, cpus: float, gpus: int) -> None:
    if device == "cuda" and workers > gpus:
        raise ClusterError(
            f"workers={workers} asks for {workers} GPUs, one each; available: {gpus}; "
            "ask for fewer workers or for device=cpu"
        )
    if workers * SCORE_WORKER_CPUS > cpus:
        raise ClusterError(
            f"workers={workers} asks for {workers * SCORE_WORKER_CPUS:g} CPUs, {SCORE_WORKER_CPUS:g} each; "
            f"available: {cpus:g}; ask for at most {int(cpus / SCORE_WORKER_CPUS)} workers"
        )
