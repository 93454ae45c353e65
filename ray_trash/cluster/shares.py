"""What each kind of process reserves of a cluster, in one table, and the processors of this process."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

READ_TASK_CPUS = 0.25
"""A task that reads, looks at or compares photos: enough to limit them, few enough to run beside workers."""
READ_AHEAD_BYTES = 256 << 20
READ_AHEAD_TASK_BYTES = 16 << 20
"""Photos that are read ahead in one go for one worker: as many, or so many for each of its tasks where that is more.
They are seconds of decoding, and the tenths of a second that it takes to begin are few beside them."""
READ_AHEAD_SHARE = 0.125
"""What that is at most of an object store, for all workers: twice as much may wait, beside what others keep there."""
LEFT_TO_READING_CPUS = 0.5
"""What workers leave to such tasks: workers that hold every CPU starve the tasks that feed them."""
_LEAST_CPUS = 0.01
"""What shares of processors are rounded down to, so that together they are not more than there is."""
DECODE_TASK_CPUS = 0.5
"""A task that reads and decodes photos for a GPU; it fits beside the worker on a machine of one CPU and one GPU."""

TRAIN_WORKER_MIN_CPUS = 0.5
"""The smallest share of a CPU that a training worker is worth starting for."""
TRIAL_DRIVER_CPUS = 0.01
"""The process of a trial that only waits for its workers; Ray Tune does not take 0."""
TRIAL_MEMORY_BYTES = 3 * 2**30
"""One CPU trial of ResNet50, about: weights, optimizer, and a batch of 32 photos of 224 pixels."""
FEATURE_WORKER_CPUS = 0.5
"""A process that computes features of photos for the audit."""

SCORE_WORKER_CPUS = 0.5
"""What a scoring worker counts for when a cluster is asked whether it has room: two share a CPU."""
SCORE_WORKER_MIN_CPUS = 0.4
"""What it reserves of that at least; if it held all of it, reading tasks would starve."""

REPLICA_CPUS = 0.25
"""A replica of an endpoint: little enough that the replicas of the next model find room beside those of this one."""
REPLICA_GPUS = 0.5
"""Likewise: two models of 0.1 GiB fit a GPU."""
GATEWAY_CPUS = 0.25
"""The gateway of an endpoint that Ray Serve deploys: it parses and waits."""


@dataclass(frozen=True)
class ReadingPlan:
    """How one worker has its photos read: by how many tasks at a time, what each reserves, and how far ahead."""

    tasks: int
    cpus: float
    ahead_bytes: int


def plan_reading(resources: Mapping[str, float], *, workers: int, worker_cpus: float, on_gpus: bool) -> ReadingPlan:
    """Share a cluster's resources, by Ray's names, among workers that reserve so much each and have photos read.

    A task for each processor in all: more would take turns, and each is a process. So they reserve together all that
    workers leave, or the tasks of what is read next would start processes beside those that still read, which Ray ends
    when they have been idle for a second. Those for GPUs reserve enough that they spread over the machines.
    """
    cpus = resources.get("CPU", 1.0)
    tasks = max(1, int(cpus / workers))
    left = (cpus - workers * worker_cpus) / (workers * tasks)
    each = DECODE_TASK_CPUS if on_gpus else max(_LEAST_CPUS, math.floor(left / _LEAST_CPUS) * _LEAST_CPUS)
    store = resources.get("object_store_memory", math.inf)
    ahead_bytes = min(max(READ_AHEAD_BYTES, tasks * READ_AHEAD_TASK_BYTES), READ_AHEAD_SHARE * store / workers)
    return ReadingPlan(tasks, each, int(ahead_bytes))


_CGROUP = Path("/sys/fs/cgroup")


def usable_cpus() -> int:
    """Count the processors this process may use, which may be fewer than what Ray counts as CPUs."""
    n_cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(n_cpus, cpu_quota())))


def cpu_quota() -> float:
    """Return how many processors' time a container gives its processes, infinite where it does not say."""
    with suppress(OSError, ValueError):
        quota, period = (_CGROUP / "cpu.max").read_text().split()
        return float(quota) / float(period)  # "max" is no number
    with suppress(OSError, ValueError):  # the first version of cgroups
        quota_us, period_us = (
            float((_CGROUP / "cpu" / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period")
        )
        return quota_us / period_us if quota_us > 0 else math.inf
    return math.inf
