"""What a run or a sweep needs, what there is, and how long it takes: one document; nothing is written."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import ray
import torch

from ray_trash.cluster.carry import carry
from ray_trash.cluster.waiting import fetch
from ray_trash.config import Config
from ray_trash.dataset.listing import Listing
from ray_trash.errors import ClusterError
from ray_trash.model.precision import resolve_precision
from ray_trash.plan.estimate import Basis, Estimate, estimate
from ray_trash.plan.measure import Measured, measure, sample_of
from ray_trash.plan.room import Room
from ray_trash.plan.sides import count_sides
from ray_trash.plan.variants import Trainings, trainings_of
from ray_trash.storage import Storage
from ray_trash.terminal.bar import Bar
from ray_trash.terminal.say import Terminal
from ray_trash.train.device_photos import MEMORY_SHARE
from ray_trash.train.photos import decoded_bytes, fits_in_memory
from ray_trash.train.run import list_and_split
from ray_trash.train.run_directory import has_run

MEASURE_TIMEOUT_S = 180.0
"""How long a machine of a cluster may take to measure, the start of a process included."""
GIB = 2**30
_SHARED_MEMORY = Path("/dev/shm")

MACHINE_FIGURES = ("address", "cpus", "gpus", "memory_bytes", "object_store_bytes")
"""What is said of each machine."""


def plan_run(config: Config, room: Room, *, load_s: float, terminal: Terminal) -> dict[str, Any]:
    """Describe a run for which there is room; `load_s` is how long this process took to load torch and Ray.

    Where `room` is of a cluster, this process is connected to it, and a machine of it measures.

    Raises:
        ClusterError: Checkpoints or activations find no room, or no machine has the time to measure.
        DataError: The photos cannot be used.
    """
    listing, rule = list_and_split(config, terminal)
    sides = count_sides(listing, rule)
    trainings = trainings_of(config, room, sides, _dtype(config, room))
    with Bar(terminal, total=None, doing="measuring what a step, a photo and a checkpoint take"):
        measured = _measured(config, room, listing, trainings)
    stores = [machine.object_store_bytes for machine in room.inventory.machines]
    in_memory = fits_in_memory(config, len(listing.files), min(stores))
    basis = Basis(config, room, sides, len(listing.files), not in_memory, trainings, measured, load_s)
    found = estimate(basis)
    checkpoints = _checkpoints(config, trainings, measured, found)
    place = Storage.at(config.storage)
    disk_free = _free_bytes(place.local_path()) if place.is_local else None
    if disk_free is not None and disk_free < checkpoints["bytes"]:
        raise ClusterError(
            f"storage={config.storage}: checkpoints take up to {checkpoints['bytes'] / GIB:.1f} GiB; "
            f"{place.uri} has {disk_free / GIB:.1f} GiB left; set storage to another place, or keep fewer "
            "(train.keep_checkpoints)"
        )
    encoded = listing.files["size_bytes"].to_pylist()
    document: dict[str, Any] = {
        "kind": "run" if room.sweep is None else "sweep",
        "name": config.name,
        "there_is": {
            "cluster": room.inventory.cluster,
            "machines": [
                {name: getattr(machine, name) for name in MACHINE_FIGURES} for machine in room.inventory.machines
            ],
            "shared_memory_free_bytes": _free_bytes(_SHARED_MEMORY) if not room.inventory.cluster else None,
            "storage": place.uri,
            "storage_free_bytes": disk_free,
        },
        "workers": {
            **asdict(room.workers),
            "threads": measured.n_threads,
            "memory_bytes_each": measured.memory_bytes,
            "computes": measured.computes,
        },
        "photos": {
            "files": len(listing.files),
            "encoded_bytes": None if None in encoded else sum(size or 0 for size in encoded),
            "classes": len(listing.classes),
            **asdict(sides),
            "decoded_bytes": round(measured.stored_bytes * len(listing.files)),
            "kept": "in memory" if in_memory else "streamed",
            "gpu_memory_share": MEMORY_SHARE if in_memory and room.workers.device == "cuda" else None,
        },
        "activations": asdict(trainings.activations),
        "checkpoints": checkpoints,
        "training": {
            "epochs": found.epochs,
            "steps_per_epoch": trainings.trainings[0].steps,
            "photos_per_step": round(sides.train / trainings.trainings[0].steps),
        },
        "sweep": _sweep(config, room, found),
        "measured": {**asdict(measured), "epoch": asdict(found.epoch), "load_s": load_s},
        "estimate": {
            "seconds": round(found.seconds, 1),
            "at_least_s": round(found.at_least_s, 1),
            "at_most_s": round(found.at_most_s, 1),
            "parts": [{"what": part.what, "seconds": round(part.seconds, 1)} for part in found.parts],
            "limits": list(found.limits),
        },
    }
    document["warnings"] = [
        *listing.warnings,
        *_warnings(config, room, document, decoded_bytes(config, basis.n_photos)),
    ]
    return document


def _dtype(config: Config, room: Room) -> torch.dtype:
    if room.workers.device == "cuda" and not torch.cuda.is_available():
        return torch.float32 if config.train.precision == "fp32" else torch.bfloat16  # the machine is another one
    return resolve_precision(config.train.precision, torch.device(room.workers.device))[0]


def _measured(config: Config, room: Room, listing: Listing, trainings: Trainings) -> Measured:
    measuring = partial(
        measure,
        trainings.variants,
        listing.classes,
        listing.root,
        sample_of(listing.files),
        device=room.workers.device,
        trainings_per_machine=room.trainings_per_machine,
    )
    if not room.inventory.cluster or (config.train.workers == 0 and room.sweep is None):
        return measuring()
    reserved = room.workers.resources_per_worker
    remote: Any = ray.remote(carry).options(num_cpus=reserved["CPU"], num_gpus=reserved.get("GPU", 0), max_retries=1)
    measured: Measured = fetch(
        remote.remote(measuring), what="a machine of the cluster to measure", timeout_s=MEASURE_TIMEOUT_S
    ).value()
    return measured


def _checkpoints(config: Config, trainings: Trainings, measured: Measured, found: Estimate) -> dict[str, Any]:
    """Say what checkpoints take while a run is at its fullest, the one that is being written included."""
    keep = config.train.keep_checkpoints
    epochs = config.train.epochs
    # The best one may be older than those kept for resume; and each is written before another one goes.
    each = epochs if keep == "all" else min(epochs, keep + 2)
    runs = len(trainings.trainings) + _finals(config, trainings)
    kept = each if keep == "all" else min(epochs, keep + 1)
    return {
        "bytes_each": measured.checkpoint_bytes,
        "kept_by_a_run": kept,
        "bytes": measured.checkpoint_bytes * (kept * (runs - 1) + each),
    }


def _finals(config: Config, trainings: Trainings) -> int:
    n_trials = len(trainings.trainings)
    return 0 if n_trials == 1 else config.tune.verdict_seeds * (1 + min(config.tune.finalists, n_trials - 1))


def _sweep(config: Config, room: Room, found: Estimate) -> dict[str, Any] | None:
    if room.sweep is None:
        return None
    return {
        "trials": room.sweep.n_trials,
        "at_once": room.sweep.trials.concurrent,
        "keys": list(room.sweep.space),
        "epochs": found.epochs,
        "search": config.tune.search,
    }


def _warnings(config: Config, room: Room, document: Mapping[str, Any], decoded: float) -> list[str]:
    warnings = []
    workers, machines = room.workers.workers, room.inventory.machines
    run = Storage.at(config.storage).child(config.name)
    if run.is_local and has_run(run):
        warnings.append(f"{run.uri}: there is a run of this name already; the plan is of a new one")
    weights = config.model.weights
    if weights not in ("none", "imagenet") and not Storage.at(weights).exists():
        warnings.append(f"model.weights={weights}: nothing is there; training would end with that")
    if workers > 1:
        warnings.append("workers exchange their gradients in every step, which was not measured: it takes longer")
    least_memory = min(machine.memory_bytes for machine in machines if machine.cpus)
    needed = document["workers"]["memory_bytes_each"] * room.trainings_per_machine
    if needed > least_memory:
        warnings.append(
            f"trainings take {needed / GIB:.1f} GiB on a machine; Ray has {least_memory / GIB:.1f} GiB of memory to "
            "give there: Linux or Ray may end one; ask for fewer at once, or for smaller batches"
        )
    store = min(machine.object_store_bytes for machine in machines)
    if config.data.cache == "memory" and decoded > store:
        warnings.append(
            f"data.cache=memory: decoded photos take {decoded / GIB:.1f} GiB, the smallest object store has "
            f"{store / GIB:.1f} GiB: the rest goes to disk and back; set data.cache=stream"
        )
    shared = document["there_is"]["shared_memory_free_bytes"]
    if shared is not None and shared < store:
        warnings.append(
            f"/dev/shm has {shared / GIB:.1f} GiB left, Ray's object store takes {store / GIB:.1f} GiB: Ray puts it "
            "on a disk, which is slow"
        )
    return warnings


def _free_bytes(place: Path) -> int | None:
    there = next((parent for parent in (place, *place.parents) if parent.exists()), None)
    return None if there is None else shutil.disk_usage(there).free
