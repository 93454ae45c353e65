"""Nothing in an epoch waits for a GPU. Without one: a step's tensors are fake ones that say they are on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from ray_trash.config import Config
from ray_trash.dataset.stream import MemoryPhotos, PhotoTable
from ray_trash.model.network import build_network, freeze_stages, set_training_mode
from ray_trash.train import epoch, tally
from ray_trash.train.device_photos import DevicePhotos
from ray_trash.train.frozen.inputs import PhotoInputs
from ray_trash.train.job import TrainJob
from ray_trash.train.progress import EpochProgress
from ray_trash.train.state import TrainState, build_optimizer, build_state
from ray_trash.train.worker import Worker

N = 8
FROZEN = 4
"""As much of the network as keeps the test short: torch works out the shapes of every layer."""
GPU = Worker(0, 1, torch.device("cuda", 0), torch.float32)


class Waits(TorchDispatchMode):
    """Lists copies to and from a GPU that this process waits for; to look at a fake tensor's value torch refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func is torch.ops.aten._to_copy.default:
            self._look(args[0], result, kwargs.get("non_blocking", False), func)
        if func is torch.ops.aten.copy_.default:
            self._look(args[1], args[0], kwargs.get("non_blocking", len(args) > 2 and args[2]), func)
        return result

    def _look(self, source: Tensor, target: Tensor, runs_on: bool, func: Any) -> None:
        if source.device.type != target.device.type and not runs_on:
            self.found.append(f"{func}: {source.device.type} to {target.device.type}")


class Photos(MemoryPhotos):
    def __init__(self) -> None:
        super().__init__([], n_threads=1)
        random = np.random.default_rng(0)
        self._photos = {row: random.integers(0, 256, (40, 48, 3), dtype=np.uint8) for row in range(N)}


def a_job(**augment: Any) -> TrainJob:
    config = Config.model_validate(
        {
            "name": "waits",
            "data": {"root": "unused"},
            "image": {"size_px": 32, "stored_short_side_px": 40},
            "augment": {"preset": "strong", **augment},
            "model": {"weights": "none", "dropout": 0.1, "frozen_stages": FROZEN},
            "train": {
                "batch_size_per_worker": 2,
                "ema_decay": 0.9,
                "clip_gradient_norm": 1.0,
                "class_balance": "weights",
                "label_smoothing": 0.1,
            },
            "evaluate": {"forward_batch_photos": 5},
        }
    )
    table = PhotoTable(np.arange(N), tuple(map(str, range(N))), np.arange(N) % 2, np.arange(N, dtype=np.uint64))
    return cast(TrainJob, SimpleNamespace(config=config, classes=("a", "b"), train=table, val=table))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, ...]]]:
    """What is fetched, by its shape, in a world of fake tensors."""
    fetched: list[tuple[int, ...]] = []

    def to_host(tensor: Tensor) -> Callable[[], np.ndarray]:
        fetched.append(tuple(tensor.shape))
        return lambda: np.full(tuple(tensor.shape), -1.0 if tensor.ndim == 1 else 0.5)

    for module in (epoch, tally):
        monkeypatch.setattr(module, "to_host", to_host)
    # There is no memory that is not swapped out without a driver.
    monkeypatch.setattr(Tensor, "pin_memory", lambda self: self)
    monkeypatch.setattr(tally, "LOOK_EVERY_STEPS", 3)
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield fetched


def fill_gradients(network: nn.Module) -> None:
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.ones_like(parameter)


def test_an_epoch_waits_for_a_gpu_every_few_steps_and_at_its_end_and_its_validation_once(
    asked: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = a_job(mixup_alpha=0.4, cutmix_alpha=1.0)
    with torch.device("cuda"):
        network, ema = (build_network(2, dropout=0.1) for _ in range(2))
    state = TrainState(network, ema.requires_grad_(False), build_optimizer(network, job.config))
    assert {group["fused"] for group in state.optimizer.param_groups} == {True}
    inputs = DevicePhotos(Photos(), job, GPU)
    freeze_stages(state.network, FROZEN)
    set_training_mode(state.network, FROZEN)
    # torch's backward pass needs a driver; it waits for nothing that its forward pass has not.
    monkeypatch.setattr(Tensor, "backward", lambda loss: fill_gradients(network))
    progress = EpochProgress()
    waits, read = Waits(), list[int]()

    def on_step(step: int, steps: int, loss: float, images_per_s: float) -> None:
        read.append(len(asked))
        if step == 1:  # what an epoch begins with is behind it
            waits.found.clear()

    with waits:
        epoch.train_epoch(state, job, GPU, inputs, progress, on_step=on_step)
    assert waits.found == []
    assert progress.step == 4
    # Figures are asked for after the third step, and waited for at the end.
    assert read == [0, 0, 1, 2]
    asked.clear()
    with waits:
        epoch.validate(state.served, job, GPU, inputs)
    assert waits.found == []
    assert asked == [(N, 2)]


def test_this_test_finds_what_waits(asked: list[tuple[int, ...]]) -> None:
    on_gpu, waits = torch.zeros(3, device="cuda"), Waits()
    with waits:
        on_gpu.cpu()
        on_gpu.copy_(torch.zeros(3))
        torch.zeros(3).to("cuda", non_blocking=True)
        torch.tensor([1.0], device="cuda")
        with pytest.raises(DataDependentOutputException):
            float(on_gpu.sum())
    assert len(waits.found) == 3


@pytest.mark.gpu
@pytest.mark.parametrize("kept", ["on the GPU", "with their source"])
def test_a_real_gpu_is_not_waited_for_within_an_epoch(kept: str) -> None:
    job, worker = a_job(mixup_alpha=0.4), Worker(0, 1, torch.device("cuda", 0), torch.bfloat16)
    state = build_state(job, build_network(2, dropout=0.1).state_dict(), worker.device)
    inputs = (DevicePhotos if kept == "on the GPU" else PhotoInputs)(Photos(), job, worker)
    set_training_mode(state.network, 0)
    progress = EpochProgress()

    def on_step(step: int, steps: int, loss: float, images_per_s: float) -> None:
        torch.cuda.set_sync_debug_mode("default" if step >= steps - 1 else "error")

    epoch.train_epoch(state, job, worker, inputs, progress, on_step=on_step)
    assert np.isfinite(progress.loss_sum)
