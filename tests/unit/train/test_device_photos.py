"""Photos kept on a device, here this machine's own memory, against those that come from their source."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from ray_trash.cluster.shares import ReadingPlan
from ray_trash.config import Config
from ray_trash.dataset.stream import MemoryPhotos, PhotoTable, StreamedPhotos
from ray_trash.image.preprocess import IMAGENET_STD
from ray_trash.train import device_photos
from ray_trash.train.device_photos import DevicePhotos, photo_inputs, why_not_on_device
from ray_trash.train.frozen.inputs import PhotoInputs
from ray_trash.train.job import TrainData
from ray_trash.train.worker import Worker
from tests.encoded import smooth_photo

N_TRAIN, N_VAL = 12, 7
SIZES = [(40, 53), (53, 40), (40, 40)]
CPU = torch.device("cpu")


class Photos(MemoryPhotos):
    def __init__(self) -> None:
        super().__init__([], n_threads=1)
        self._photos = {row: smooth_photo(*SIZES[row % len(SIZES)]) for row in range(N_TRAIN + N_VAL)}


def some_data(**augment: Any) -> TrainData:
    config = Config.model_validate(
        {
            "name": "a",
            "data": {"root": "unused"},
            "image": {"size_px": 48, "stored_short_side_px": 40},
            "augment": {"preset": "strong", "size_px": 32, **augment},
        }
    )

    def table(first: int, n: int) -> PhotoTable:
        rows = np.arange(first, first + n)
        return PhotoTable(rows, tuple(map(str, rows)), rows % 2, rows.astype(np.uint64) + 5)

    return TrainData(config, table(0, N_TRAIN), table(N_TRAIN, N_VAL))


BATCHES = [np.array([3, 0, 11]), np.array([7]), np.array([1, 2])]


@pytest.mark.parametrize("augment", [{}, {"views": 2}])
@pytest.mark.parametrize("epoch", [0, 3])
def test_training_sees_the_same_photos_but_for_levels_that_are_rounded_otherwise(
    epoch: int, augment: dict[str, int]
) -> None:
    data, worker = some_data(**augment), Worker(0, 1, CPU, torch.float32)
    device, source = DevicePhotos(Photos(), data, worker), PhotoInputs(Photos(), data, worker)
    pairs = list(zip(device.training(BATCHES, epoch), source.training(BATCHES, epoch), strict=True))
    assert [len(ours) for ours, _ in pairs] == [3, 1, 2]
    for ours, theirs in pairs:
        assert ours.is_contiguous(memory_format=torch.channels_last)
        levels = (ours - theirs).abs() * 255 * max(IMAGENET_STD)
        assert levels.max() < 4.1
        assert levels.mean() < 0.02


@pytest.mark.parametrize("world", [1, 2])
def test_validation_sees_the_very_same_photos(world: int) -> None:
    for rank in range(world):
        data, worker = some_data(), Worker(rank, world, CPU, torch.float32)
        batches = [np.arange(rank, N_VAL, world)[:2], np.arange(rank, N_VAL, world)[2:]]
        device, source = DevicePhotos(Photos(), data, worker), PhotoInputs(Photos(), data, worker)
        for ours, theirs in zip(device.validation(batches), source.validation(batches), strict=True):
            assert torch.equal(ours, theirs)


def test_photos_that_are_streamed_or_too_large_stay_with_their_source_and_it_is_said() -> None:
    data, worker = some_data(), Worker(0, 1, CPU, torch.float32)
    photos = Photos()
    n_bytes = DevicePhotos(photos, data, worker).n_bytes
    assert n_bytes == N_TRAIN * 53 * 53 * 3 + N_VAL * 48 * 48 * 3
    assert why_not_on_device(photos, data, worker, 4 * n_bytes) == ""
    assert "they may take 25%" in why_not_on_device(photos, data, worker, 4 * n_bytes - 1)
    streamed = StreamedPhotos("unused", ReadingPlan(1, 1.0, 1))
    assert why_not_on_device(streamed, data, worker, 4 * n_bytes) == "they are streamed"


def test_a_cpu_takes_photos_from_their_source_and_a_gpu_keeps_those_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    data, said = some_data(), list[str]()
    assert isinstance(photo_inputs(Photos(), data, Worker(0, 1, CPU, torch.float32), said.append), PhotoInputs)
    assert said == []
    gpu = Worker(0, 1, torch.device("cuda", 0), torch.float32)
    free = {"bytes": 10**9}
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free["bytes"], 10**9))
    monkeypatch.setattr(device_photos, "DevicePhotos", lambda *_: SimpleNamespace(n_bytes=2**29))
    monkeypatch.setattr(device_photos, "PhotoInputs", lambda *_: "from their source")
    assert cast(Any, photo_inputs(Photos(), data, gpu, said.append)).n_bytes == 2**29
    free["bytes"] = 1000
    assert photo_inputs(Photos(), data, gpu, said.append) == "from their source"  # type: ignore[comparison-overlap]
    assert "kept and changed on the GPU: 0.50 GiB of 0.9 GiB that were free" in said[0]
    assert said[1].startswith("photos go to the GPU batch by batch: as large as the largest of them")
