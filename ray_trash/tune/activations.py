"""The activations of the frozen stages, computed once for all trials of a sweep, before the first starts."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any

import ray
import torch

from ray_trash.cluster.capacity import WorkerPlan, count_machines
from ray_trash.cluster.carry import carry
from ray_trash.cluster.shares import usable_cpus
from ray_trash.cluster.waiting import fetch
from ray_trash.config import Config, override, why_not_cached
from ray_trash.model.network import freeze_stages
from ray_trash.model.precision import resolve_device, resolve_precision
from ray_trash.terminal.bar import Bar
from ray_trash.terminal.say import Terminal
from ray_trash.train.frozen.compute import GIB, OnViews, activation_files, compute_missing
from ray_trash.train.job import TrainData
from ray_trash.train.photos import PreparedRun, TrainingPhotos
from ray_trash.train.start import build_source
from ray_trash.train.worker import Worker
from ray_trash.tune.search import Point
from ray_trash.tune.trial import initial_network

COMPUTE_TIMEOUT_S = 12 * 3600.0
"""How long one machine may compute for all trials: a million photos on two cores take as long."""


def share_activations(
    base: PreparedRun, photos: TrainingPhotos, workers: WorkerPlan, points: Sequence[Point], terminal: Terminal
) -> frozenset[int] | None:
    """Compute the activations that the points known beforehand have in common, on one machine of the cluster.

    Returns the numbers of frozen stages whose activations are there; None where trials differ in what is below them.
    """
    wanted = shared_stages(base.config, points)
    if not wanted:
        return None if wanted is None else frozenset()
    compute = partial(_compute, replace(base, config=wanted[max(wanted)]), photos, workers, sorted(wanted))
    doing = "computing the activations of the frozen stages:"
    with Bar(terminal, total=None, noun="views of photos", doing=doing) as bar:
        if workers.device == "cpu" and count_machines() == 1:
            cached, line = compute(on_views=lambda done, wanted: bar.show(done, total=wanted))
        else:
            # The driver may be on a machine without GPUs, or without trials.
            reserved = workers.resources_per_worker
            remote: Any = ray.remote(carry).options(
                num_cpus=reserved["CPU"], num_gpus=reserved.get("GPU", 0), max_retries=1
            )
            what = "the activations of the frozen stages"
            cached, line = fetch(remote.remote(compute), what=what, timeout_s=COMPUTE_TIMEOUT_S).value()
    if cached:
        terminal.say(line)
    for n_frozen in sorted(set(wanted) - cached):
        terminal.say(f"trials with {n_frozen} frozen stages compute them anew: they do not fit train.cache_frozen_gib")
    return cached


def shared_stages(config: Config, points: Sequence[Point]) -> dict[int, Config] | None:
    """Return the numbers of frozen stages whose activations trials share, each with a config that has it.

    None where trials differ in what is below the stages, and each sees to its own.
    """
    if any(key.startswith(("augment.", "image.")) for point in points for key in point.params):
        return None
    configs = [override(config, point.params) for point in points]
    return {
        config.model.frozen_stages: config
        for config in configs
        if config.train.cache_frozen != "off" and not why_not_cached(config)
    }


def fitting_stages(sizes_bytes: Mapping[int, int], budget_bytes: float) -> list[int]:
    """Choose, of numbers of frozen stages and the bytes of their activations, those that fit, the smallest first."""
    fitting = []
    for n_frozen in sorted(sizes_bytes, key=lambda n_frozen: sizes_bytes[n_frozen]):
        if sizes_bytes[n_frozen] <= budget_bytes:
            budget_bytes -= sizes_bytes[n_frozen]
            fitting.append(n_frozen)
    return fitting


def _compute(
    base: PreparedRun,
    photos: TrainingPhotos,
    workers: WorkerPlan,
    stages: Sequence[int],
    *,
    on_views: OnViews = lambda done, wanted: None,
) -> tuple[frozenset[int], str]:
    """Compute what fits for some numbers of frozen stages; return these, and what there is in a line."""
    config, data = base.config, TrainData(base.config, photos.train, photos.val)
    device = resolve_device(workers.device)
    # Ray gives a task few threads; nothing else runs yet.
    torch.set_num_threads(torch.get_num_threads() if device.type == "cuda" else usable_cpus())
    dtype, _ = resolve_precision(config.train.precision, device)
    worker = Worker(0, 1, device, dtype)
    network = initial_network(base, config).to(device=device, memory_format=torch.channels_last)
    freeze_stages(network, max(stages))
    files = activation_files(data, dtype, network, stages)
    sizes_bytes = {n_frozen: own.n_bytes for n_frozen, own in files.items()}
    fitting = {n: files[n] for n in fitting_stages(sizes_bytes, config.train.cache_frozen_gib * GIB)}
    if not fitting:
        return frozenset(), ""
    with closing(build_source(base.listing.root, photos.decoded, device)) as source:
        started = time.perf_counter()
        n_computed = compute_missing(fitting, source, data, worker, network, on_views=on_views)
        seconds = time.perf_counter() - started
    sizes = {n_frozen: own.sets["train"].bytes_per_photo / 1024 for n_frozen, own in sorted(fitting.items())}
    line = (
        f"all trials share the activations of {'/'.join(map(str, sizes))} frozen stages: "
        f"{sum(own.n_bytes for own in fitting.values()) / GIB:.2f} GiB "
        f"({', '.join(f'{n_frozen}: {kib:.0f} KiB' for n_frozen, kib in sizes.items())} a view of a photo), "
        + (f"computed in {seconds:.0f} s" if n_computed else "computed before")
    )
    return frozenset(fitting), line
