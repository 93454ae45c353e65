"""What a network is fed with: photos, or what its frozen stages make of them, computed once and kept.

Both give the same batches in the same order; which part of the network is left to compute on them is theirs to say.
Letters: B photos, S side in pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ray_trash.config import Config
from ray_trash.dataset.stream import PhotoSource, PhotoTable, Transform, prepared_ahead
from ray_trash.image.preprocess import Preprocessing
from ray_trash.image.tensor import normalise
from ray_trash.model.frozen import TrainedStages
from ray_trash.model.resnet import ResNet
from ray_trash.train.frozen.files import ActivationFiles, Side
from ray_trash.train.job import training_transform
from ray_trash.train.worker import Worker

Batches = Sequence[NDArray[np.int64]]
"""Positions in the table of one side of the split, batch by batch."""


class Task(Protocol):
    """What inputs need to know of a run: a `TrainJob` knows it."""

    @property
    def config(self) -> Config:
        """The resolved config."""
        ...

    @property
    def train(self) -> PhotoTable:
        """Photos to train on."""
        ...

    @property
    def val(self) -> PhotoTable:
        """Photos to validate on."""
        ...


class Inputs(Protocol):
    """What a network is fed with."""

    def training(self, batches: Batches, epoch: int) -> Iterator[Tensor]:
        """Yield each batch as training sees it in an epoch, from 0, on the worker's device."""
        ...

    def validation(self, batches: Batches) -> Iterator[Tensor]:
        """Yield each batch as validation sees it, on the worker's device."""
        ...

    def part(self, network: ResNet) -> nn.Module:
        """Return the part of a network that is computed on these inputs, sharing its modules."""
        ...


class PhotoInputs:
    """Normalised photos (B, 3, S, S), for the whole network."""

    def __init__(self, source: PhotoSource, job: Task, worker: Worker) -> None:
        """Take photos from a source."""
        self._source, self._job, self._worker = source, job, worker

    def training(self, batches: Batches, epoch: int) -> Iterator[Tensor]:
        """Yield each batch as training sees it in an epoch, from 0."""
        return self.transformed(self._job.train, batches, training_transform(self._job.config, epoch))

    def validation(self, batches: Batches) -> Iterator[Tensor]:
        """Yield each batch as validation sees it."""
        return self.transformed(self._job.val, batches, Transform(Preprocessing.from_config(self._job.config.image)))

    def part(self, network: ResNet) -> nn.Module:
        """Return the whole network."""
        whole: nn.Module = network
        return whole

    def transformed(self, table: PhotoTable, batches: Batches, transform: Transform) -> Iterator[Tensor]:
        """Yield batches of a table under a transform."""
        for photos in self._source.batches(table, batches, transform):
            yield normalise(torch.from_numpy(photos).to(self._worker.device), transform.preprocessing)


class CachedInputs:
    """Activations at a cut, read from files, for the stages above it."""

    def __init__(self, files: ActivationFiles, cut: int, worker: Worker, *, n_threads: int) -> None:
        """Read from files that are open."""
        self._files, self._cut, self._worker, self._n_threads = files, cut, worker, n_threads

    def training(self, batches: Batches, epoch: int) -> Iterator[Tensor]:
        """Yield each batch as training sees it in an epoch, from 0."""
        return self._read("train", epoch % self._files.part("train").views, batches)

    def validation(self, batches: Batches) -> Iterator[Tensor]:
        """Yield each batch as validation sees it."""
        return self._read("val", 0, batches)

    def part(self, network: ResNet) -> nn.Module:
        """Return the stages above the cut and the head."""
        return TrainedStages(network, self._cut)

    def _read(self, side: Side, view: int, batches: Batches) -> Iterator[Tensor]:
        def prepare(positions: NDArray[np.int64]) -> Tensor:
            return self._files.read(side, view, positions)

        for activations in prepared_ahead(prepare, batches, n_threads=self._n_threads):
            yield activations.to(self._worker.device, self._worker.dtype)
