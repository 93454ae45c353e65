"""What the driver tells every worker of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ray_trash.config import Config
from ray_trash.dataset.stream import PhotoTable, Transform
from ray_trash.image.preprocess import Preprocessing
from ray_trash.train.board import Board

if TYPE_CHECKING:
    from ray_trash.train.shared_board import SharedBoard

VIEW_SEED = 0
"""What a fixed number of views is drawn from."""


@dataclass(frozen=True)
class TrainData:
    """The photos of a run, and the resolved config that says how they reach its network."""

    config: Config
    train: PhotoTable
    val: PhotoTable


@dataclass(frozen=True)
class TrainJob(TrainData):
    """One run, as its workers see it.

    Attributes:
        root: The data root, absolute where local.
        data: What the checkpoint says of its data: fingerprint, split rule, photos per split.
        attempt: Names this start of the run; a worker of an earlier start must not write.
        in_memory: Whether workers are given decoded photos.
        board: Where what happens is posted, for the driver to show.
        runs_at_once, runs_per_machine: How many runs share the cluster, and the processors of one machine.
    """

    classes: tuple[str, ...]
    root: str
    data: Mapping[str, Any]
    run_uri: str
    attempt: str
    in_memory: bool
    device: Literal["cpu", "cuda"]
    board: Board | SharedBoard
    runs_at_once: int = 1
    runs_per_machine: int = 1


def training_transform(config: Config, epoch: int) -> Transform:
    """Say what training does to a photo in an epoch, from 0."""
    views, preprocessing = config.augment.views, Preprocessing.from_config(config.image)
    if views is None:
        return Transform(preprocessing, config.augment, config.seed, epoch)
    # Views belong to the photos, not to the run: runs with other seeds share what is computed from them.
    return Transform(preprocessing, config.augment, VIEW_SEED, epoch % views)
