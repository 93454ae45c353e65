"""The activations of the frozen stages, computed once for all trials of a sweep, before the first starts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import ray
import torch
from torch import Tensor

from ray_trash.cluster.capacity import WorkerPlan, count_machines
from ray_trash.cluster.carry import carry
from ray_trash.cluster.waiting import fetch
from ray_trash.config import Config, override, why_not_cached
from ray_trash.dataset.stream import PhotoTable
from ray_trash.model.network import freeze_stages
from ray_trash.model.precision import resolve_device, resolve_precision
from ray_trash.train.frozen.compute import GIB, activation_files, compute_missing
from ray_trash.train.start import build_source
from ray_trash.train.worker import Worker, usable_cpus
from ray_trash.tune.search import Point
from ray_trash.tune.trial import initial_network

COMPUTE_TIMEOUT_S = 12 * 3600.0
"""How long one machine may compute for all trials: a million photos on two cores take as long."""


@dataclass(frozen=True)
class ActivationJob:
    """What activations are computed from: some of the fields of a `Sweep`, and of what one worker of a trial has."""

    config: Config
    classes: tuple[str, ...]
    train: PhotoTable
    val: PhotoTable
    decoded: ray.data.Dataset | None
    root: str
    backbone: Mapping[str, Tensor] | None
    workers: WorkerPlan


@dataclass(frozen=True)
class _Computed:
    bytes_per_photo: Mapping[int, int]
    n_bytes: int
    seconds: float


def share_activations(job: ActivationJob, points: Sequence[Point], say: Callable[[str], None]) -> frozenset[int] | None:
    """Compute the activations that the points known beforehand have in common, on one machine of the cluster.

    Returns:
        Numbers of frozen stages whose activations are there; None where trials differ in what is below them.

    Raises:
        StorageError: The disk does not take them.
    """
    if any(key.startswith(("augment.", "image.")) for point in points for key in point.params):
        return None
    configs = [override(job.config, point.params) for point in points]
    wanted = {
        config.model.frozen_stages: config
        for config in configs
        if config.train.cache_frozen != "off" and not why_not_cached(config)
    }
    if not wanted:
        return frozenset()
    computed = _computed_where_trials_run(replace(job, config=wanted[max(wanted)]), sorted(wanted))
    cached = sorted(computed.bytes_per_photo)
    if cached:
        named = ", ".join(f"{n}: {computed.bytes_per_photo[n] / 1024:.0f} KiB" for n in cached)
        say(
            f"all trials share the activations of {'/'.join(map(str, cached))} frozen stages: "
            f"{computed.n_bytes / GIB:.2f} GiB ({named} a view of a photo), "
            + (f"computed in {computed.seconds:.0f} s" if computed.seconds else "computed before")
        )
    for n_frozen in sorted(set(wanted) - set(cached)):
        say(f"trials with {n_frozen} frozen stages compute them anew: they do not fit train.cache_frozen_gib")
    return frozenset(cached)


def _computed_where_trials_run(job: ActivationJob, stages: Sequence[int]) -> _Computed:
    compute = partial(_compute, job, stages)
    if job.workers.device == "cpu" and count_machines() == 1:
        return compute()
    # The driver may be on a machine without GPUs, or without trials.
    reserved = job.workers.resources_per_worker
    remote = ray.remote(carry).options(num_cpus=reserved["CPU"], num_gpus=reserved.get("GPU", 0), max_retries=1)
    return fetch(
        remote.remote(compute), what="the activations of the frozen stages", timeout_s=COMPUTE_TIMEOUT_S
    ).value()


def _compute(job: ActivationJob, stages: Sequence[int]) -> _Computed:
    device = resolve_device(job.workers.device)
    # Ray gives a task few threads; nothing else runs yet.
    torch.set_num_threads(torch.get_num_threads() if device.type == "cuda" else usable_cpus())
    dtype, _ = resolve_precision(job.config.train.precision, device)
    worker = Worker(0, 1, device, dtype)
    network = initial_network(job.config, job.backbone, len(job.classes))
    network = network.to(device=device, memory_format=torch.channels_last)
    freeze_stages(network, max(stages))
    files = activation_files(job, dtype, network, stages)
    left = job.config.train.cache_frozen_gib * GIB
    fitting = {}
    for n_frozen in sorted(stages, key=lambda n_frozen: files[n_frozen].n_bytes):
        if files[n_frozen].n_bytes <= left:
            left -= files[n_frozen].n_bytes
            fitting[n_frozen] = files[n_frozen]
    if not fitting:
        return _Computed({}, 0, 0.0)
    source = build_source(job.root, job.decoded, device)
    started = time.perf_counter()
    n_computed = compute_missing(fitting, source, job, worker, network)
    return _Computed(
        {n_frozen: part.part("train").bytes_per_photo for n_frozen, part in fitting.items()},
        sum(part.n_bytes for part in fitting.values()),
        time.perf_counter() - started if n_computed else 0.0,
    )
