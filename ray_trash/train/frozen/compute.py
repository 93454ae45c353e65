"""Computing what the frozen stages make of the photos, once, for every epoch and every run that needs it.

With their weights and statistics frozen, the lower stages are a fixed function of the photo, and with a fixed number
of views so is what training feeds them. Whether that is worth keeping, and what it takes, is decided here.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from ray_trash.config import Config, why_not_cached
from ray_trash.dataset.stream import PhotoSource, PhotoTable, Transform
from ray_trash.errors import ConfigError, StorageError
from ray_trash.model.network import evaluation_mode
from ray_trash.model.parts import activation_shape, activations_at, lower_digest
from ray_trash.model.resnet import ResNet
from ray_trash.train.frozen.files import ActivationFiles, Part, Side, default_folder, key_of, make_room
from ray_trash.train.frozen.inputs import CachedInputs, Inputs, PhotoInputs, Task
from ray_trash.train.job import augmentation_of, preprocessing_of, training_transform
from ray_trash.train.worker import Worker

_Missing = dict[Side, dict[int, set[tuple[int, int]]]]
"""For each side and cut, the (view, chunk) whose file is not there."""
GIB = 2**30
TRAINING_FORMAT = torch.bfloat16
"""What training's activations are rounded to: half the bytes of float32, and what bf16 arithmetic gives anyway."""
_BUILD_TRIES = 2
"""How often files that another run threw away while they were made are made again."""


def build_inputs(source: PhotoSource, job: Task, worker: Worker, network: ResNet, say: Callable[[str], None]) -> Inputs:
    """Choose what a worker's network is fed with, and compute what is missing of it.

    Args:
        source: Where the photos come from.
        job: The run.
        worker: This worker; all of them call this together.
        network: With the frozen stages as they stay.
        say: Takes lines for people.

    Raises:
        ConfigError: `train.cache_frozen` is `on`, and what is to be kept does not fit.
        StorageError: The disk does not take it, on this worker or another.
    """
    photos = PhotoInputs(source, job, worker)
    train, cut = job.config.train, job.config.model.frozen_stages
    if train.cache_frozen == "off" or why_not_cached(job.config):
        return photos
    if train.cache_frozen == "auto" and n_views(job.config) >= train.epochs:
        return photos
    files = activation_files(job, worker.dtype, network, [cut])[cut]
    obstacle = _obstacle(job.config, [files])
    if worker.any_of(bool(obstacle)):
        obstacle = obstacle or "another machine has no room"
        if train.cache_frozen == "on":
            raise ConfigError(f"train.cache_frozen=on: {obstacle}")
        say(f"the frozen stages are computed anew in every epoch: {obstacle}")
        return photos
    if worker.rank == 0:
        say(f"what {cut} frozen stages make of the photos is kept: {files.n_bytes / GIB:.2f} GiB in {files.folder}")
    compute_missing({cut: files}, source, job, worker, network)
    return CachedInputs(files, cut, worker, n_threads=1)


def n_views(config: Config) -> int:
    """Return how many different views of a photo training has, where that is a fixed number."""
    return 1 if config.augment.preset == "none" else config.augment.views or config.train.epochs


def activation_files(job: Task, dtype: torch.dtype, network: ResNet, cuts: Sequence[int]) -> dict[int, ActivationFiles]:
    """Name the files for some cuts, under everything their content depends on.

    Training's are bf16, which halves them; validation's have the format of the arithmetic, so that the figures a
    run is judged by are the same with and without them.
    """
    config = job.config
    folder = cache_folder(config)
    sides: list[tuple[Side, PhotoTable, int, int]] = [
        ("train", job.train, n_views(config), config.train_size_px),
        ("val", job.val, 1, config.image.size_px),
    ]
    found = {}
    for cut in cuts:
        key = key_of(
            {
                "cut": cut,
                "weights": lower_digest(network, cut),
                "arithmetic": str(dtype),
                "preprocessing": preprocessing_of(config).to_json(),
                "augmentation": asdict(augmentation_of(config)),
                "photos": {side: hashlib.sha256(table.keys.tobytes()).hexdigest() for side, table, _, _ in sides},
            }
        )
        parts = [
            Part(side, len(table), views, activation_shape(cut, px), TRAINING_FORMAT if side == "train" else dtype)
            for side, table, views, px in sides
        ]
        found[cut] = ActivationFiles(folder, key, parts)
    return found


def cache_folder(config: Config) -> Path:
    """Return where activations are kept."""
    return Path(config.train.cache_frozen_dir).expanduser() if config.train.cache_frozen_dir else default_folder()


def compute_missing(
    files: dict[int, ActivationFiles], source: PhotoSource, job: Task, worker: Worker, network: ResNet
) -> int:
    """Compute and write whatever files are missing, shared among the workers of a machine, and open all.

    Args:
        files: For every cut; those of a chunk that several cuts lack are computed in one pass.
        source: Where the photos come from.
        job: The run.
        worker: This worker; all of them call this together.
        network: With the frozen stages as they stay.

    Returns:
        Views of photos that this worker computed.

    Raises:
        StorageError: The disk does not take them, on this worker or another.
    """
    n_computed = 0
    keep = frozenset(part.folder.name for part in files.values())
    needed = sum(part.n_bytes for part in files.values())
    for attempt in range(_BUILD_TRIES):
        problem: StorageError | None = None
        missing = _missing(files)
        # Each takes its share of the same list, so none may write before all have looked.
        worker.any_of(False)
        try:
            if worker.local_rank == 0:
                budget = int(job.config.train.cache_frozen_gib * GIB)
                make_room(cache_folder(job.config), keep, budget_bytes=budget, needed_bytes=needed)
            n_computed += _compute(files, missing, source, job, worker, network)
        except StorageError as error:
            problem = error
        if worker.any_of(problem is not None):
            raise problem or StorageError("another worker could not keep what the frozen stages make of the photos")
        try:
            for part in files.values():
                part.open()
        except StorageError as error:
            problem = error
        if not worker.any_of(problem is not None):
            break
        if attempt == _BUILD_TRIES - 1:
            raise problem or StorageError("another worker lost what the frozen stages make of the photos")
    return n_computed


def _missing(files: dict[int, ActivationFiles]) -> _Missing:
    sides: tuple[Side, ...] = ("val", "train")
    return {side: {cut: set(part.missing(side)) for cut, part in files.items()} for side in sides}


def _compute(
    files: dict[int, ActivationFiles],
    missing_of: _Missing,
    source: PhotoSource,
    job: Task,
    worker: Worker,
    network: ResNet,
) -> int:
    photos = PhotoInputs(source, job, worker)
    n_computed = 0
    some = next(iter(files.values()))
    sides: list[tuple[Side, PhotoTable]] = [("val", job.val), ("train", job.train)]
    for side, table in sides:
        missing = missing_of[side]
        wanted = sorted(set().union(*missing.values()))[worker.local_rank :: worker.local_world]
        for view in sorted({view for view, _ in wanted}):
            chunks = [chunk for v, chunk in wanted if v == view]
            positions = [some.part(side).positions(chunk) for chunk in chunks]
            transform = (
                training_transform(job.config, view) if side == "train" else Transform(preprocessing_of(job.config))
            )
            with torch.inference_mode(), evaluation_mode(network), worker.autocast():
                for chunk, batch in zip(chunks, photos.transformed(table, positions, transform), strict=True):
                    n_computed += len(batch)
                    cuts = [cut for cut in files if (view, chunk) in missing[cut]]
                    for cut, activations in activations_at(network, batch, cuts).items():
                        files[cut].write(side, view, chunk, activations)
    return n_computed


def _obstacle(config: Config, files: Sequence[ActivationFiles]) -> str:
    needed, budget = sum(part.n_bytes for part in files), int(config.train.cache_frozen_gib * GIB)
    if needed > budget:
        return (
            f"they take {needed / GIB:.2f} GiB and train.cache_frozen_gib is {config.train.cache_frozen_gib:g}; "
            "fewer augment.views, more frozen stages or a smaller augment.size_px take less"
        )
    folder = cache_folder(config)
    there = next((parent for parent in (folder, *folder.parents) if parent.exists()), Path("/"))
    free = shutil.disk_usage(there).free
    if free < needed and any(part.missing("train") or part.missing("val") for part in files):
        return f"they take {needed / GIB:.2f} GiB and {there} has {free / GIB:.2f} GiB left"
    return ""
