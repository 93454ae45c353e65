"""What the frozen stages make of the photos, computed once for all trials of a sweep, before the first starts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import ray
import torch

from ray_trash.cluster.capacity import count_machines
from ray_trash.cluster.shares import usable_cpus
from ray_trash.cluster.waiting import fetch
from ray_trash.config import Config, override, why_not_cached
from ray_trash.dataset.stream import PhotoTable
from ray_trash.errors import RayTrashError
from ray_trash.model.network import freeze_stages
from ray_trash.model.precision import resolve_device, resolve_precision
from ray_trash.train.frozen.compute import GIB, activation_files, compute_missing, n_views, seconds_per_view
from ray_trash.train.start import build_source
from ray_trash.train.worker import Worker
from ray_trash.tune.search import Point
from ray_trash.tune.trial import Sweep, initial_network

STAGE_COST = (0.12, 0.67, 1.03, 1.46, 0.81)
"""Multiply-adds of each stage for a photo of 224 pixels, in thousand millions. Source: counted from torchvision's
ResNet50, v1.5; 4.09 in all."""

COMPUTE_TIMEOUT_S = 12 * 3600.0
"""How long one machine may compute for all trials: a million photos on two cores take as long."""


@dataclass(frozen=True)
class SharedActivations:
    """What was computed for all trials.

    Attributes:
        cuts: Numbers of frozen stages it was computed for; None where trials differ in what is below the cut.
        bytes_per_photo: For every cut, of one view of a training photo.
        n_bytes: Of all files.
        build_s: Seconds it took; 0 where everything was there.
        pass_s: For every cut, seconds that an epoch of one trial is spared.
    """

    cuts: frozenset[int] | None
    bytes_per_photo: Mapping[int, int]
    n_bytes: int
    build_s: float
    pass_s: Mapping[int, float]


@dataclass(frozen=True)
class _Task:
    config: Config
    train: PhotoTable
    val: PhotoTable


def share_activations(sweep: Sweep, points: Sequence[Point], say: Callable[[str], None]) -> SharedActivations:
    """Compute the activations that trials have in common, on one machine of the cluster.

    Args:
        sweep: The sweep; its `shared_cuts` are decided here.
        points: What will be trained, as far as it is known.
        say: Takes lines for people.

    Raises:
        StorageError: The disk does not take them.
    """
    if any(key.startswith(("augment.", "image.")) for point in points for key in point.params):
        return SharedActivations(None, {}, 0, 0.0, {})
    configs = [override(sweep.config, point.params) for point in points]
    wanted = {
        config.model.frozen_stages: config
        for config in configs
        if config.train.cache_frozen != "off" and not why_not_cached(config)
    }
    if not wanted:
        return SharedActivations(frozenset(), {}, 0, 0.0, {})
    shared = _computed_where_trials_run(replace(sweep, config=wanted[max(wanted)]), sorted(wanted))
    if shared.cuts:
        named = ", ".join(f"{cut}: {shared.bytes_per_photo[cut] / 1024:.0f} KiB" for cut in sorted(shared.cuts))
        say(
            f"what {'/'.join(map(str, sorted(shared.cuts)))} frozen stages make of the photos is shared by all trials: "
            f"{shared.n_bytes / GIB:.2f} GiB ({named} a view of a photo), "
            + (f"computed in {shared.build_s:.0f} s" if shared.build_s else "computed before")
        )
    for cut in sorted(set(wanted) - (shared.cuts or frozenset())):
        say(f"trials with {cut} frozen stages compute them anew: they do not fit train.cache_frozen_gib")
    return shared


def _computed_where_trials_run(sweep: Sweep, cuts: Sequence[int]) -> SharedActivations:
    if sweep.plan.workers.device == "cpu" and count_machines() == 1:
        return _computed(sweep, cuts)
    # The driver may be on a machine without GPUs, or without trials.
    reserved = sweep.plan.workers.resources_per_worker
    remote = ray.remote(_compute).options(num_cpus=reserved["CPU"], num_gpus=reserved.get("GPU", 0), max_retries=1)
    outcome = fetch(
        remote.remote(sweep, cuts), what="what the frozen stages make of the photos", timeout_s=COMPUTE_TIMEOUT_S
    )
    if isinstance(outcome, RayTrashError):
        raise outcome
    shared: SharedActivations = outcome
    return shared


def _compute(sweep: Sweep, cuts: Sequence[int]) -> SharedActivations | RayTrashError:
    # An exception that leaves a Ray task arrives as another one; ours travels as a value.
    try:
        return _computed(sweep, cuts)
    except RayTrashError as error:
        return error


def _computed(sweep: Sweep, cuts: Sequence[int]) -> SharedActivations:
    config, photos = sweep.config, sweep.photos
    device = resolve_device(sweep.plan.workers.device)
    # Ray gives a task few threads; nothing else runs yet.
    torch.set_num_threads(torch.get_num_threads() if device.type == "cuda" else usable_cpus())
    dtype, _ = resolve_precision(config.train.precision, device)
    worker = Worker(0, 1, device, dtype)
    network = initial_network(config, sweep).to(device=device, memory_format=torch.channels_last)
    freeze_stages(network, max(cuts))
    task = _Task(config, photos.train, photos.val)
    files = activation_files(task, dtype, network, cuts)
    budget = config.train.cache_frozen_gib * GIB
    fitting: dict[int, int] = {}
    for cut in sorted(cuts, key=lambda cut: files[cut].n_bytes):
        if sum(fitting.values()) + files[cut].n_bytes <= budget:
            fitting[cut] = files[cut].n_bytes
    chosen = {cut: files[cut] for cut in fitting}
    if not chosen:
        return SharedActivations(frozenset(), {}, 0, 0.0, {})
    source = build_source(sweep.listing.root, photos.decoded, device)
    started = time.perf_counter()
    n_computed = compute_missing(chosen, source, task, worker, network)
    build_s = time.perf_counter() - started if n_computed else 0.0
    if n_computed == n_views(config) * len(photos.train) + len(photos.val):
        view_s = build_s / n_computed
    else:
        view_s = seconds_per_view(source, task, worker, network, max(chosen))
    an_epoch = view_s * (len(photos.train) + len(photos.val))
    whole = sum(STAGE_COST[: max(chosen)])
    return SharedActivations(
        frozenset(chosen),
        {cut: part.part("train").bytes_per_photo for cut, part in chosen.items()},
        sum(fitting.values()),
        build_s,
        {cut: an_epoch * sum(STAGE_COST[:cut]) / whole for cut in chosen},
    )
