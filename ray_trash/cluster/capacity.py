"""How many training workers, and trials of a sweep, a cluster has room for, decided before anything starts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import ray
from ray.autoscaler.sdk import request_resources

from ray_trash.config import TrainConfig, TuneConfig
from ray_trash.errors import ClusterError

READING_CPUS = 0.5
"""CPUs left to Ray Data: workers that hold every CPU of a cluster starve the stream that feeds them."""
MIN_CPUS_PER_WORKER = 0.5
"""The smallest share of a CPU a worker is worth starting for."""
DRIVER_CPUS = 0.01
"""What the process of a trial reserves that only waits for its workers; Ray Tune does not take 0."""
TRIAL_MEMORY_BYTES = 3 * 2**30
"""What one CPU trial of ResNet50 takes, about: weights, optimizer, and a batch of 32 photos of 224 pixels."""
MANY = 1 << 16
"""More trials than a cluster runs."""
POLL_S = 1.0


@dataclass(frozen=True)
class WorkerPlan:
    """The workers of one training run.

    Attributes:
        workers: How many, one process each.
        device: Where each of them computes.
        cpus_per_worker: CPUs Ray reserves for each.
        in_process: Whether the one worker is the process that runs the training, which reserves nothing more.
    """

    workers: int
    device: Literal["cpu", "cuda"]
    cpus_per_worker: float
    in_process: bool = False

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
    try:
        while True:
            try:
                return plan_workers(train, ray.cluster_resources(), machines=count_machines())
            except ClusterError as error:
                if time.monotonic() >= deadline:
                    if train.wait_for_workers_s:
                        waited = f"(waited {train.wait_for_workers_s:g} s for it to scale)"
                        raise ClusterError(f"{error} {waited}") from error
                    raise
                if not asked:
                    say(f"waiting up to {train.wait_for_workers_s:g} s for the cluster to scale: {error}")
                    request_resources(bundles=wanted_bundles(train))
                    asked = True
            time.sleep(min(POLL_S, max(0.0, deadline - time.monotonic())))
    finally:
        if asked:
            # A request stands until it is replaced, and would keep machines that nobody uses.
            request_resources(bundles=[])


def count_machines() -> int:
    """Count the machines of the connected cluster that have CPUs for work."""
    return sum(1 for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) > 0)


def wanted_bundles(train: TrainConfig) -> list[dict[str, float]]:
    """List what `plan_workers` would find room for: each worker's share, and that of reading."""
    workers = train.workers if train.workers != "auto" else 1
    cpus = 1 if train.cpus_per_worker == "auto" else train.cpus_per_worker
    bundle: dict[str, float] = {"CPU": cpus, **({"GPU": 1} if train.device == "cuda" else {})}
    return [bundle] * workers + [{"CPU": READING_CPUS}]


@dataclass(frozen=True)
class TrialPlan:
    """How the trials of a sweep share a cluster.

    Attributes:
        workers: Of one trial. A trial of one worker trains in the process that Ray Tune starts for it.
        concurrent: Trials at the same time.
        runs_per_machine: Trials that share one machine's processors.
    """

    workers: WorkerPlan
    concurrent: int
    runs_per_machine: int

    @property
    def resources_per_trial(self) -> dict[str, float]:
        """What Ray Tune reserves for one trial; the workers of a trial that has some reserve their own."""
        return self.workers.resources_per_worker if self.workers.in_process else {"CPU": DRIVER_CPUS}


def plan_trials(
    train: TrainConfig, tune: TuneConfig, resources: Mapping[str, float], *, machines: int, trials: int
) -> TrialPlan:
    """Decide how many trials run at the same time, so that each has its workers and reading keeps its share.

    Args:
        train: The `train` section.
        tune: The `tune` section.
        resources: Totals as `ray.cluster_resources()` gives them: `CPU`, `GPU`, `memory` in bytes.
        machines: Machines with CPUs for work.
        trials: How many there are to run.

    Raises:
        ClusterError: A trial, or as many at once as were asked for, does not fit; the message says asked and
            available.
    """
    alone = plan_workers(_of_one_trial(train), resources, machines=machines)
    cpus = resources.get("CPU", 0.0) - READING_CPUS
    in_process = alone.workers == 1
    most = min(trials, tune.max_concurrent_trials if tune.max_concurrent_trials != "auto" else trials)
    if alone.device == "cuda":
        room = min(int(resources.get("GPU", 0)) // alone.workers, int(cpus / (alone.workers * alone.cpus_per_worker)))
        per_worker = alone.cpus_per_worker
    else:
        least = alone.cpus_per_worker if train.cpus_per_worker != "auto" else MIN_CPUS_PER_WORKER
        room = int(cpus / (alone.workers * least))
        if tune.max_concurrent_trials == "auto":
            # One core each: two trials side by side are faster than one after the other on both.
            room = min(room, max(1, int(resources.get("CPU", 1)) // alone.workers), _that_fit_memory(resources))
        share = int(100 * cpus / (alone.workers * max(1, min(room, most)))) / 100
        per_worker = alone.cpus_per_worker if train.cpus_per_worker != "auto" else min(1.0, share)
    if tune.max_concurrent_trials != "auto" and tune.max_concurrent_trials > room:
        raise ClusterError(
            f"tune.max_concurrent_trials={tune.max_concurrent_trials} asks for that many times {alone.workers} "
            f"worker{'s' * (alone.workers > 1)} on {alone.device}; the cluster has {resources.get('CPU', 0):g} CPUs "
            f"and {resources.get('GPU', 0):g} GPUs, which is room for {room}"
        )
    concurrent = max(1, min(room, most))
    workers = WorkerPlan(alone.workers, alone.device, per_worker, in_process=in_process)
    return TrialPlan(workers, concurrent, runs_per_machine=-(-concurrent // max(1, machines)))


def _of_one_trial(train: TrainConfig) -> TrainConfig:
    # One GPU or processor each: many small trials waste less than a few that wait for one another.
    return train.model_copy(update={"workers": 1}) if train.workers in (0, "auto") else train


def _that_fit_memory(resources: Mapping[str, float]) -> int:
    return max(1, int(resources["memory"] // TRIAL_MEMORY_BYTES)) if "memory" in resources else MANY
