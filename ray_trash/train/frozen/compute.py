"""Computing the frozen stages' activations once, for every epoch and every run that needs them.

With their weights and statistics frozen, the lower stages are a fixed function of the photo, and with a fixed number
of views so is what training feeds them. Whether that is worth keeping, and what it takes, is decided here.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Collection, Mapping, Set
from functools import partial
from pathlib import Path

import torch

from ray_trash.config import Config, why_not_cached
from ray_trash.dataset.stream import PhotoSource
from ray_trash.errors import ConfigError, StorageError
from ray_trash.image.augment import augmentation_values
from ray_trash.image.preprocess import Preprocessing
from ray_trash.model.frozen import activation_shape, activations_after, frozen_digest
from ray_trash.model.network import evaluation_mode
from ray_trash.model.resnet import ResNet
from ray_trash.train.device_photos import photo_inputs
from ray_trash.train.frozen.files import ActivationFiles, ActivationSet, Side, key_of, make_room
from ray_trash.train.frozen.inputs import CachedInputs, NetworkInputs, PhotoInputs
from ray_trash.train.job import TrainData
from ray_trash.train.worker import Worker

_SIDES: tuple[Side, ...] = ("val", "train")
GIB = 2**30
TRAINING_FORMAT = torch.bfloat16
"""What training's activations are rounded to: half the bytes of float32, and what bf16 arithmetic gives anyway."""
OnViews = Callable[[int, int], None]
"""Is told of how many views of photos this worker has computed the activations, and of how many it will."""
_BUILD_TRIES = 2
"""How often files that another run threw away while they were made are made again."""


def build_inputs(
    source: PhotoSource,
    data: TrainData,
    worker: Worker,
    network: ResNet,
    say: Callable[[str], None],
    on_views: OnViews = lambda done, wanted: None,
) -> NetworkInputs:
    """Choose what a worker's network is fed with, and compute what is missing of it; all workers call this together.

    The frozen stages of `network` must be as they stay. A `ConfigError` where `train.cache_frozen` is `on` and what is
    to be kept does not fit, a `StorageError` where a disk does not take it, on this worker or another.
    """
    n_frozen = data.config.model.frozen_stages
    if not pays_to_keep(data.config):
        return photo_inputs(source, data, worker, say)
    files = activation_files(data, worker.dtype, network, [n_frozen])[n_frozen]
    missing = any(files.missing(side) for side in _SIDES)
    obstacle = lack_of_room(data.config, files.n_bytes, missing=missing)
    if worker.any_of(bool(obstacle)):
        obstacle = obstacle or "another machine has no room"
        if data.config.train.cache_frozen == "on":
            raise ConfigError(f"train.cache_frozen=on: {obstacle}")
        say(f"the frozen stages are computed anew in every epoch: {obstacle}")
        return photo_inputs(source, data, worker, say)
    if worker.is_first:
        say(f"activations of the {n_frozen} frozen stages are kept: {files.n_bytes / GIB:.2f} GiB in {files.folder}")
    on_views = on_views if worker.is_first else (lambda done, wanted: None)
    compute_missing({n_frozen: files}, source, data, worker, network, on_views=on_views)
    return CachedInputs(files, n_frozen, worker)


def pays_to_keep(config: Config) -> bool:
    """Say whether a run keeps the activations of its frozen stages, if there is room for them."""
    used_once = config.train.cache_frozen == "auto" and n_views(config) >= config.train.epochs
    return not (config.train.cache_frozen == "off" or why_not_cached(config) or used_once)


def n_views(config: Config) -> int:
    """Return how many different views of a photo training has, where that is a fixed number."""
    return 1 if config.augment.preset == "none" else config.augment.views or config.train.epochs


def activation_files(
    data: TrainData, dtype: torch.dtype, network: ResNet, n_frozen: Collection[int]
) -> dict[int, ActivationFiles]:
    """Name the files for some numbers of frozen stages, under everything their content depends on.

    Training's are bf16, which halves them; validation's have the format of the arithmetic, so that the figures a
    run is judged by are the same with and without them.
    """
    config, preprocessing = data.config, Preprocessing.from_config(data.config.image)
    photos = {side: hashlib.sha256(getattr(data, side).keys.tobytes()).hexdigest() for side in ("train", "val")}
    found = {}
    for n in n_frozen:
        key = key_of(
            {
                "cut": n,
                "weights": frozen_digest(network, n),
                "arithmetic": str(dtype),
                "preprocessing": preprocessing.to_json(),
                "augmentation": augmentation_values(config.augment, preprocessing),
                "photos": photos,
            }
        )
        sets = activation_sets(config, n, n_train=len(data.train), n_val=len(data.val), dtype=dtype)
        found[n] = ActivationFiles(cache_folder(config), key, sets)
    return found


def activation_sets(
    config: Config, n_frozen: int, *, n_train: int, n_val: int, dtype: torch.dtype
) -> tuple[ActivationSet, ActivationSet]:
    """Describe what is kept of so many photos, for training and for validation."""
    sides_px, architecture = (config.train_size_px, config.image.size_px), config.model.architecture
    train_shape, val_shape = (activation_shape(n_frozen, px, architecture=architecture) for px in sides_px)
    return (
        ActivationSet("train", n_train, n_views(config), train_shape, TRAINING_FORMAT),
        ActivationSet("val", n_val, 1, val_shape, dtype),
    )


def cache_folder(config: Config) -> Path:
    """Return where activations are kept."""
    if config.train.cache_frozen_dir:
        return Path(config.train.cache_frozen_dir).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ray-trash" / "activations"


def compute_missing(
    files: Mapping[int, ActivationFiles],
    source: PhotoSource,
    data: TrainData,
    worker: Worker,
    network: ResNet,
    *,
    on_views: OnViews = lambda done, wanted: None,
) -> int:
    """Compute and write whatever files are missing, shared among the workers of a machine, and open all.

    All workers call this together, and fail together where the disk of one does not take them. Files are by number of
    frozen stages; a chunk that several lack is computed in one pass. Returns the views of photos that this worker
    computed.
    """

    def open_all() -> None:
        for own in files.values():
            own.open()

    n_computed = 0
    for tries_left in reversed(range(_BUILD_TRIES)):
        missing = {side: {n: set(own.missing(side)) for n, own in files.items()} for side in _SIDES}
        # Each takes its share of the same list, so none may write before all have looked.
        worker.any_of(False)
        compute = partial(_compute, files, missing, source, data, worker, network, on_views)
        n_computed += worker.on_all(compute, failed="could not keep activations of the frozen stages")
        try:
            worker.on_all(open_all, failed="lost activations of the frozen stages")
            break
        except StorageError:
            if not tries_left:
                raise
    return n_computed


def _compute(
    files: Mapping[int, ActivationFiles],
    missing: Mapping[Side, Mapping[int, Set[tuple[int, int]]]],
    source: PhotoSource,
    data: TrainData,
    worker: Worker,
    network: ResNet,
    on_views: OnViews,
) -> int:
    config, n_computed = data.config, 0
    if worker.local_rank == 0:
        make_room(
            cache_folder(config),
            frozenset(own.folder.name for own in files.values()),
            budget_bytes=int(config.train.cache_frozen_gib * GIB),
            needed_bytes=sum(own.n_bytes for own in files.values()),
        )
    photos = PhotoInputs(source, data, worker)
    sets = next(iter(files.values())).sets
    wanted_of = {
        side: sorted(frozenset().union(*missing[side].values()))[worker.local_rank :: worker.local_world]
        for side in _SIDES
    }
    n_wanted = sum(len(sets[side].positions(chunk)) for side, wanted in wanted_of.items() for _, chunk in wanted)
    for side, wanted in wanted_of.items():
        chunks_of = sets[side]
        for view in sorted({view for view, _ in wanted}):
            chunks = [chunk for v, chunk in wanted if v == view]
            positions = [chunks_of.positions(chunk) for chunk in chunks]
            batches = photos.training(positions, view) if side == "train" else photos.validation(positions)
            with torch.inference_mode(), evaluation_mode(network), worker.autocast():
                for chunk, batch in zip(chunks, batches, strict=True):
                    n_computed += len(batch)
                    lacking = [n for n in files if (view, chunk) in missing[side][n]]
                    for n, activations in activations_after(network, batch, lacking).items():
                        files[n].write(side, view, chunk, activations)
                    on_views(n_computed, n_wanted)
    return n_computed


def lack_of_room(config: Config, n_bytes: int, *, missing: bool) -> str:
    """Say why so many bytes of activations, some `missing` yet, are not kept here; nothing is an empty string."""
    if n_bytes > int(config.train.cache_frozen_gib * GIB):
        return (
            f"they take {n_bytes / GIB:.2f} GiB and train.cache_frozen_gib is {config.train.cache_frozen_gib:g}; "
            "fewer augment.views, more frozen stages or a smaller augment.size_px take less"
        )
    folder = cache_folder(config)
    there = next((parent for parent in (folder, *folder.parents) if parent.exists()), Path("/"))
    free = shutil.disk_usage(there).free
    if free < n_bytes and missing:
        return f"they take {n_bytes / GIB:.2f} GiB and {there} has {free / GIB:.2f} GiB left"
    return ""
