"""What the driver tells every worker of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ray_trash.config import Config
from ray_trash.dataset.stream import PhotoTable, Transform
from ray_trash.image.augment import Augmentation
from ray_trash.image.preprocess import Preprocessing
from ray_trash.train.board import Board, SharedBoard

VIEW_SEED = 0
"""What a fixed number of views is drawn from."""


@dataclass(frozen=True)
class TrainJob:
    """One run, as its workers see it.

    Attributes:
        config: The resolved config.
        classes: Names in label order.
        root: The data root, absolute where local.
        train: Photos to train on.
        val: Photos to validate on.
        data: What the checkpoint says of its data: fingerprint, split rule, photos per split.
        run_uri: The run directory.
        attempt: Names this start of the run; a worker of an earlier start must not write.
        in_memory: Whether decoded photos come with the workers' data set.
        device: Where to compute.
        board: Where what happens is posted, for the driver to show.
        runs_per_machine: How many runs share a machine's processors.
    """

    config: Config
    classes: tuple[str, ...]
    root: str
    train: PhotoTable
    val: PhotoTable
    data: Mapping[str, Any]
    run_uri: str
    attempt: str
    in_memory: bool
    device: Literal["cpu", "cuda"]
    board: Board | SharedBoard
    runs_per_machine: int = 1


def preprocessing_of(config: Config) -> Preprocessing:
    """Take the preprocessing from the config."""
    image = config.image
    return Preprocessing(size_px=image.size_px, stored_short_side_px=image.stored_short_side_px, fit=image.fit)


def augmentation_of(config: Config) -> Augmentation:
    """Take the augmentation from the config."""
    augment = config.augment
    return Augmentation(
        preset=augment.preset,
        size_px=config.train_size_px,
        crop_area_min=augment.crop_area_min,
        colour_strength=augment.colour_strength,
        erase_probability=augment.erase_probability,
    )


def training_transform(config: Config, epoch: int) -> Transform:
    """Say what training does to a photo in an epoch, from 0."""
    views, preprocessing, augmentation = config.augment.views, preprocessing_of(config), augmentation_of(config)
    if views is None:
        return Transform(preprocessing, augmentation, config.seed, epoch)
    # Views belong to the photos, not to the run: runs with other seeds share what is computed from them.
    return Transform(preprocessing, augmentation, VIEW_SEED, epoch % views)
