"""Decoded photos kept in a GPU's memory and changed there, batch by batch: only what is drawn is copied to it.

Letters: B photos, H and W pixels of the largest photo, S side in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ray_trash.dataset.ahead import prepared_ahead
from ray_trash.dataset.sampler import worker_rows
from ray_trash.dataset.stream import Batches, MemoryPhotos, Photo, PhotoSource, Transform
from ray_trash.image.batch import as_values, change_photos
from ray_trash.image.preprocess import Preprocessing
from ray_trash.image.tensor import normalise
from ray_trash.model.resnet import ResNet
from ray_trash.model.transfer import to_device
from ray_trash.train.frozen.inputs import NetworkInputs, PhotoInputs
from ray_trash.train.job import TrainData, training_transform
from ray_trash.train.worker import Worker

MEMORY_SHARE = 0.25
"""Of a GPU's free memory that photos may take: what a large batch leaves behind for its gradients needs the rest."""
_CHUNK_PHOTOS = 256
_GIB = 2**30


def photo_inputs(source: PhotoSource, data: TrainData, worker: Worker, say: Callable[[str], None]) -> NetworkInputs:
    """Choose where photos wait for the network: in the memory of its GPU if they fit, else with their source.

    All workers call this together, and choose alike.
    """
    if worker.device.type != "cuda":
        return PhotoInputs(source, data, worker)
    free_bytes, _ = torch.cuda.mem_get_info(worker.device)
    obstacle = why_not_on_device(source, data, worker, free_bytes)
    if worker.any_of(bool(obstacle)):
        obstacle = obstacle or "those of another worker do not fit"
        if worker.is_first:
            say(f"photos go to the GPU batch by batch: {obstacle}")
        return PhotoInputs(source, data, worker)
    assert isinstance(source, MemoryPhotos)
    photos = DevicePhotos(source, data, worker)
    if worker.is_first:
        say(
            f"photos are kept and changed on the GPU: {photos.n_bytes / _GIB:.2f} GiB of {free_bytes / _GIB:.1f} GiB "
            f"that were free, of which they may take {MEMORY_SHARE:.0%}"
        )
    return photos


def why_not_on_device(source: PhotoSource, data: TrainData, worker: Worker, free_bytes: int) -> str:
    """Say why photos are not kept on a device that has so much memory free; nothing is an empty string."""
    if not isinstance(source, MemoryPhotos):
        return "they are streamed"
    n_squares = -(-len(data.val) // worker.world)
    n_bytes = math.prod(_stored_shape(source.stored(data.train))) + 3 * n_squares * data.config.image.size_px**2
    if n_bytes > MEMORY_SHARE * free_bytes:
        return (
            f"as large as the largest of them, they take {n_bytes / _GIB:.2f} GiB; of {free_bytes / _GIB:.1f} GiB that "
            f"are free they may take {MEMORY_SHARE:.0%}"
        )
    return ""


class DevicePhotos(NetworkInputs):
    """Normalised photos (B, 3, S, S), for the whole network, of photos that are on its device.

    Training's are kept as they are stored and changed by `image.batch`, validation's as squares, made as everywhere.
    """

    def __init__(self, source: MemoryPhotos, data: TrainData, worker: Worker) -> None:
        """Copy a worker's photos to its device."""
        self._data, self._device = data, worker.device
        self._preprocessing = Preprocessing.from_config(data.config.image)
        photos = source.stored(data.train)
        self._sizes = [(photo.shape[0], photo.shape[1]) for photo in photos]
        self._stored = torch.empty(_stored_shape(photos), dtype=torch.uint8, device=worker.device)
        for start in range(0, len(photos), _CHUNK_PHOTOS):
            chunk = self._stored[start : start + _CHUNK_PHOTOS]
            padded = np.zeros(chunk.shape, np.uint8)
            for place, photo in zip(padded, photos[start : start + _CHUNK_PHOTOS], strict=True):
                height, width, _ = photo.shape
                place[:height, :width] = photo
            chunk.copy_(to_device(padded, worker.device))
        self._own = worker_rows(len(data.val), rank=worker.rank, workers=worker.world)
        chunks = [self._own[start : start + _CHUNK_PHOTOS] for start in range(0, len(self._own), _CHUNK_PHOTOS)]
        fitted = source.batches(data.val, chunks, Transform(self._preprocessing))
        squares = [to_device(chunk, worker.device) for chunk in fitted]
        self._squares = torch.cat(squares) if squares else self._stored[:0]

    @property
    def n_bytes(self) -> int:
        """What the photos take on the device."""
        return self._stored.nbytes + self._squares.nbytes

    def training(self, batches: Batches, epoch: int) -> Iterator[Tensor]:
        """Yield each batch as training sees it in an epoch, from 0."""
        transform, keys = training_transform(self._data.config, epoch), self._data.train.keys

        def draw(positions: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
            sizes = (self._sizes[position] for position in positions)
            drawn = zip(sizes, keys[positions].tolist(), strict=True)
            return positions, as_values([transform.draw(height, width, key) for (height, width), key in drawn])

        preset, side_px = self._data.config.augment.preset, transform.side_px
        for positions, values in prepared_ahead(draw, batches, n_threads=1):
            stored = self._stored.index_select(0, to_device(positions, self._device))
            squares = change_photos(stored, to_device(values, self._device), preset=preset, side_px=side_px)
            yield normalise(squares, self._preprocessing)

    def validation(self, batches: Batches) -> Iterator[Tensor]:
        """Yield each batch as validation sees it, of photos that are this worker's."""
        for positions in batches:
            rows = to_device(np.searchsorted(self._own, positions), self._device)
            yield normalise(self._squares.index_select(0, rows), self._preprocessing)

    def trained_part(self, network: ResNet) -> nn.Module:
        """Return the whole network."""
        whole: nn.Module = network
        return whole


def _stored_shape(photos: Sequence[Photo]) -> tuple[int, int, int, int]:
    """Return (N, H, W, 3), as large as the largest."""
    height, width = (max(photo.shape[side] for photo in photos) for side in (0, 1))
    return len(photos), height, width, 3
