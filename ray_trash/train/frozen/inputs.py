"""What a network is fed with: photos, or activations of its frozen stages, computed once and kept.

Both give the same batches in the same order, and say which part of the network is left to compute on them.
Letters: B photos, S side in pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from ray_trash.dataset.ahead import prepared_ahead
from ray_trash.dataset.stream import Batches, PhotoSource, PhotoTable, Transform
from ray_trash.image.preprocess import Preprocessing
from ray_trash.image.tensor import normalise
from ray_trash.model.frozen import TrainedStages
from ray_trash.model.resnet import ResNet
from ray_trash.model.transfer import Uploads
from ray_trash.train.frozen.files import ActivationFiles, Side
from ray_trash.train.job import TrainData, training_transform
from ray_trash.train.worker import Worker


class NetworkInputs(Protocol):
    """What a network is fed with."""

    def training(self, batches: Batches, epoch: int) -> Iterator[Tensor]:
        """Yield each batch as training sees it in an epoch, from 0."""
        ...

    def validation(self, batches: Batches) -> Iterator[Tensor]:
        """Yield each batch as validation sees it."""
        ...

    def trained_part(self, network: ResNet) -> nn.Module:
        """Return the part of the network that is left to compute."""
        ...

    def expect_training(self, batches: Batches, epoch: int) -> None:
        """Say what `training` will be asked for, after what was said before; for inputs that are not there at once."""
        return

    def expect_validation(self, batches: Batches) -> None:
        """Say what `validation` will be asked for, as `expect_training` does."""
        return


class PhotoInputs(NetworkInputs):
    """Normalised photos (B, 3, S, S), for the whole network."""

    def __init__(self, source: PhotoSource, data: TrainData, worker: Worker) -> None:
        """Take photos from a source."""
        self._source, self._data, self._upload = source, data, Uploads(worker.device)
        self._fitted = Transform(Preprocessing.from_config(data.config.image))

    def training(self, batches: Batches, epoch: int) -> Iterator[Tensor]:
        """Yield each batch as training sees it in an epoch, from 0."""
        return self._transformed(self._data.train, batches, training_transform(self._data.config, epoch))

    def validation(self, batches: Batches) -> Iterator[Tensor]:
        """Yield each batch as validation sees it."""
        return self._transformed(self._data.val, batches, self._fitted)

    def expect_training(self, batches: Batches, epoch: int) -> None:
        """Say what `training` will be asked for, after what was said before."""
        self._source.expect(self._data.train, batches, training_transform(self._data.config, epoch))

    def expect_validation(self, batches: Batches) -> None:
        """Say what `validation` will be asked for, after what was said before."""
        self._source.expect(self._data.val, batches, self._fitted)

    def trained_part(self, network: ResNet) -> nn.Module:
        """Return the whole network."""
        whole: nn.Module = network
        return whole

    def _transformed(self, table: PhotoTable, batches: Batches, transform: Transform) -> Iterator[Tensor]:
        for photos in self._source.batches(table, batches, transform):
            yield normalise(self._upload(photos), transform.preprocessing)


class CachedInputs(NetworkInputs):
    """Activations of the frozen stages, read from files, for the stages above them."""

    def __init__(self, files: ActivationFiles, n_frozen: int, worker: Worker) -> None:
        """Read from files that are open."""
        self._files, self._n_frozen, self._dtype, self._upload = files, n_frozen, worker.dtype, Uploads(worker.device)

    def training(self, batches: Batches, epoch: int) -> Iterator[Tensor]:
        """Yield each batch as training sees it in an epoch, from 0."""
        return self._read("train", epoch % self._files.sets["train"].views, batches)

    def validation(self, batches: Batches) -> Iterator[Tensor]:
        """Yield each batch as validation sees it."""
        return self._read("val", 0, batches)

    def trained_part(self, network: ResNet) -> nn.Module:
        """Return the stages above the frozen ones, and the head."""
        return TrainedStages(network, self._n_frozen)

    def _read(self, side: Side, view: int, batches: Batches) -> Iterator[Tensor]:
        def prepare(positions: NDArray[np.int64]) -> Tensor:
            return self._files.read(side, view, positions)

        for activations in prepared_ahead(prepare, batches, n_threads=1):
            yield self._upload(activations).to(self._dtype)
