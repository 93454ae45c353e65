"""How many processes a cluster has room for: training workers, trials, replicas and scoring workers.

Each planner decides from totals before anything starts; a `ClusterError` says asked and available.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

from ray_trash.cluster.shares import (
    LEFT_TO_READING_CPUS,
    REPLICA_GPUS,
    SCORE_WORKER_CPUS,
    SCORE_WORKER_MIN_CPUS,
    TRAIN_WORKER_MIN_CPUS,
    TRIAL_DRIVER_CPUS,
    TRIAL_MEMORY_BYTES,
)
from ray_trash.config import ServeConfig, TrainConfig, TuneConfig
from ray_trash.errors import ClusterError, ConfigError

Device = Literal["cpu", "cuda"]
Bundle = dict[str, float]
"""What has to fit one machine."""
Resources = Mapping[str, float]
"""Totals as `ray.cluster_resources()` gives them: `CPU`, `GPU`, `memory` in bytes."""

REPLICA_THREAD_SHARES = 2
"""How many replicas' shares of the processors one may use, where there are several."""
PHOTOS_PER_START = 64
"""Photos that are scored in the time that one more process takes to start: four seconds, at 224 pixels on one CPU."""
WAIT_FOR_ROOM_S = 20.0
"""How long resources that somebody else holds are waited for; Ray frees them with some delay."""
_ROOM_POLL_S = 0.25


@dataclass(frozen=True)
class WorkerPlan:
    """The workers of one training run, one process each.

    `in_process` means that the one worker is the process that runs the training, which reserves nothing more.
    """

    workers: int
    device: Device
    cpus_per_worker: float
    in_process: bool = False

    @property
    def resources_per_worker(self) -> dict[str, float]:
        """What Ray reserves for one worker."""
        return bundle(self.cpus_per_worker, self.device)


def plan_workers(train: TrainConfig, resources: Resources, *, machines: int, fixed: int | None = None) -> WorkerPlan:
    """Decide workers, device and CPU share; `auto` is one worker per GPU, or per machine with CPUs.

    `fixed` is a number that was decided earlier, and is kept.
    """
    device = choose_device(train.device, resources)
    each = max(1, int(resources.get("GPU", 0)) if device == "cuda" else machines)
    if fixed is not None:
        return _plan_workers(train, fixed, device, resources)
    if not isinstance(train.workers, tuple):
        return _plan_workers(train, each if train.workers == "auto" else train.workers, device, resources)
    fewest, most = train.workers
    for workers in range(min(each, most), fewest, -1):
        with suppress(ClusterError):
            return _plan_workers(train, workers, device, resources)
    return _plan_workers(train, fewest, device, resources)


def _plan_workers(train: TrainConfig, workers: int, device: Device, resources: Resources) -> WorkerPlan:
    cpus, gpus = resources.get("CPU", 0.0), int(resources.get("GPU", 0))
    if device == "cuda" and workers > gpus:
        raise ClusterError(
            f"train.workers={_written(train)} asks for {workers} GPU{'s' * (workers > 1)}; the cluster has {gpus}; "
            "ask for fewer workers or set train.device=cpu"
        )
    share = (cpus - LEFT_TO_READING_CPUS) / workers
    automatic = max(TRAIN_WORKER_MIN_CPUS, min(1.0, int(share * 100) / 100))
    per_worker = automatic if train.cpus_per_worker == "auto" else train.cpus_per_worker
    if share < per_worker:
        raise ClusterError(
            f"train.workers={_written(train)} asks for {workers * per_worker:g} CPUs ({per_worker:g} for each of "
            f"{workers} workers) and {LEFT_TO_READING_CPUS:g} to read photos; the cluster has {cpus:g} CPUs; ask for "
            f"at most {max(0, int((cpus - LEFT_TO_READING_CPUS) / per_worker))} workers"
        )
    return WorkerPlan(workers, device, per_worker)


def _written(train: TrainConfig) -> str:
    return str(list(train.workers) if isinstance(train.workers, tuple) else train.workers)


def count_machines() -> int:
    """Count the machines of the connected cluster that have CPUs for work."""
    return len(machine_cpus())


def machine_cpus() -> list[float]:
    """Return the CPUs of each machine of the connected cluster that has some."""
    from ray_trash.cluster.machines import living_machines

    return [machine.cpus for machine in living_machines() if machine.cpus > 0]


def bundle(cpus: float, device: str) -> Bundle:
    """Return what one process needs: CPUs, and a GPU where it computes on one."""
    return {"CPU": cpus, **({"GPU": 1.0} if device == "cuda" else {})}


def choose_device(asked: Literal["auto", "cpu", "cuda"], resources: Resources) -> Device:
    """Choose where to compute: `auto` takes GPUs where the cluster has some."""
    if asked != "auto":
        return asked
    return "cuda" if resources.get("GPU", 0) >= 1 else "cpu"


@dataclass(frozen=True)
class TrialPlan:
    """How the trials of a sweep share a cluster; one of one worker trains in the process that Ray Tune starts for it.

    `runs_per_machine` trials share one machine's processors.
    """

    workers: WorkerPlan
    concurrent: int
    runs_per_machine: int

    @property
    def resources_per_trial(self) -> dict[str, float]:
        """What Ray Tune reserves for one trial; the workers of a trial that has some reserve their own."""
        return self.workers.resources_per_worker if self.workers.in_process else {"CPU": TRIAL_DRIVER_CPUS}


def plan_trials(train: TrainConfig, tune: TuneConfig, resources: Resources, *, machines: int, trials: int) -> TrialPlan:
    """Decide how many trials run at the same time, so that each has its workers and reading keeps its share.

    `train.workers=auto` is one worker a trial: many small trials waste less than a few that wait for one another. Of
    workers that come and go a trial has the fewest, whose number stays: what one trial gained another would lose.
    """
    workers = workers_of_trial(train)
    alone = _plan_workers(train, workers, choose_device(train.device, resources), resources)
    cpus = resources.get("CPU", 0.0) - LEFT_TO_READING_CPUS
    at_most = most_at_once(tune, trials)
    per_worker = alone.cpus_per_worker
    if alone.device == "cuda":
        room = min(int(resources.get("GPU", 0)) // workers, int(cpus / (workers * per_worker)))
    else:
        is_free = train.cpus_per_worker == "auto"
        room = int(cpus / (workers * (TRAIN_WORKER_MIN_CPUS if is_free else per_worker)))
        if tune.max_concurrent_trials == "auto":
            # One core each: two trials side by side are faster than one after the other on both.
            room = min(room, max(1, int(resources.get("CPU", 1)) // workers))
            if "memory" in resources:
                room = min(room, max(1, int(resources["memory"] // TRIAL_MEMORY_BYTES)))
        if is_free:
            per_worker = min(1.0, int(100 * cpus / (workers * max(1, min(room, at_most)))) / 100)
    if tune.max_concurrent_trials != "auto" and tune.max_concurrent_trials > room:
        raise ClusterError(
            f"tune.max_concurrent_trials={tune.max_concurrent_trials} asks for that many times {workers} "
            f"worker{'s' * (workers > 1)} on {alone.device}; the cluster has {resources.get('CPU', 0):g} CPUs "
            f"and {resources.get('GPU', 0):g} GPUs, which is room for {room}"
        )
    concurrent = max(1, min(room, at_most))
    each = WorkerPlan(workers, alone.device, per_worker, in_process=workers == 1)
    return TrialPlan(each, concurrent, runs_per_machine=-(-concurrent // max(1, machines)))


def workers_of_trial(train: TrainConfig) -> int:
    """Return how many workers one trial has."""
    asked = train.workers[0] if isinstance(train.workers, tuple) else train.workers
    return 1 if asked in (0, "auto") else int(asked)


def most_at_once(tune: TuneConfig, trials: int) -> int:
    """Return how many of so many trials may run at the same time, where there is room."""
    return trials if tune.max_concurrent_trials == "auto" else min(trials, tune.max_concurrent_trials)


@dataclass(frozen=True)
class ReplicaPlan:
    """What one replica of an endpoint has: CPU threads that compute, and GPUs that Ray reserves for it."""

    n_threads: int
    gpus: float


def plan_replicas(
    serve: ServeConfig, resources: Resources, *, grows: bool = False, with_shadow: bool = False
) -> ReplicaPlan:
    """Decide what each replica of an endpoint has; a model on trial, the shadow, has a CPU beside theirs.

    On a cluster that `grows` there may be more than it has room for.
    """
    cpus, gpus = int(resources.get("CPU", 0)), resources.get("GPU", 0)
    replicas = serve.max_replicas or serve.replicas
    if serve.device == "cuda" and replicas * REPLICA_GPUS > gpus and not grows:
        raise ClusterError(f"serve.replicas={replicas} asks for {replicas * REPLICA_GPUS:g} GPUs; available: {gpus:g}")
    if replicas > max(cpus, 1) and not grows:
        raise ClusterError(f"serve.replicas={replicas} asks for a CPU each; available: {cpus}; ask for at most {cpus}")
    if with_shadow and replicas + 1 > cpus and not grows:
        raise ClusterError(
            f"serve.replicas={replicas} and a model on trial ask for {replicas + 1} CPUs; available: {cpus}; ask for "
            "fewer replicas, or for no model on trial"
        )
    share = max(1, cpus // replicas)
    # Of several, one that is left alone while another is replaced has its processors to use too.
    n_threads = share if replicas == 1 else min(cpus, REPLICA_THREAD_SHARES * share)
    on_gpus = serve.device == "cuda" or (serve.device == "auto" and gpus > 0)
    return ReplicaPlan(serve.threads_per_replica or n_threads, REPLICA_GPUS if on_gpus else 0.0)


@dataclass(frozen=True)
class ScoringPlan:
    """Who scores: processes with a network each, their threads, what Ray reserves for each.

    At most `readers` tasks at a time decode for GPUs. `in_process` means that the one worker is this process, which
    reserves nothing.
    """

    workers: int
    device: Device
    n_threads: int
    cpus_per_worker: float
    readers: int
    in_process: bool = False

    @classmethod
    def here(cls, device: Device, *, n_threads: int) -> ScoringPlan:
        """Plan to score in this process."""
        return cls(1, device, n_threads, cpus_per_worker=0.0, readers=1, in_process=True)

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
    """Decide workers and device, for a cluster with the CPUs of each machine that has some.

    By default there is one worker per GPU; where there is none, one per CPU if each has one thread, else one per
    machine, whose workers share its processors. `workers` below 1 are a `ConfigError`.
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


def wait_for_room(plan: ScoringPlan) -> None:
    """Give what others hold of the connected cluster some seconds to become free, or raise `ClusterError`."""
    import ray

    deadline = time.monotonic() + WAIT_FOR_ROOM_S
    while True:
        free = ray.available_resources()
        try:
            _require_room(plan.workers, plan.device, free.get("CPU", 0.0), int(free.get("GPU", 0)))
            return
        except ClusterError as error:
            if time.monotonic() >= deadline:
                raise ClusterError(f"{error} (others hold the rest of the cluster)") from error
        time.sleep(_ROOM_POLL_S)


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
