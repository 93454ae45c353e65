"""One variant of a training, timed: steps, validation, frozen stages and a checkpoint of the same few photos.

It is the code that trains, in this process; nothing is written. Weights are random, which computes at the same speed.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from ray_trash.config import Config, override
from ray_trash.dataset.catalog import photo_keys
from ray_trash.dataset.stream import Batches, MemoryPhotos, PhotoTable
from ray_trash.image.preprocess import Preprocessing
from ray_trash.model.calibration import Calibration
from ray_trash.model.frozen import TrainedStages, activations_after
from ray_trash.model.golden import compute_golden
from ray_trash.model.network import evaluation_mode, freeze_stages, set_training_mode
from ray_trash.model.resnet import ResNet
from ray_trash.model.tensors import plain_state, to_safetensors, to_torch_file
from ray_trash.train.board import Board
from ray_trash.train.epoch import train_epoch, validate
from ray_trash.train.frozen.files import CHUNK
from ray_trash.train.frozen.inputs import NetworkInputs, PhotoInputs
from ray_trash.train.job import TrainJob
from ray_trash.train.progress import EpochProgress
from ray_trash.train.state import TrainState, build_state, seeded_network
from ray_trash.train.worker import Worker

FEWEST_STEPS = 3
MOST_STEPS = 24
VALIDATED_BATCHES = 3
"""The first of them sets things up and does not count."""
_NO_STEPS_RATE = 1e-12
"""Weights must not move: a rate that is right for a run may be wrong for the same few photos again and again."""


@dataclass(frozen=True)
class Variant:
    """One way a network is trained: by a config, with so many stages frozen, whose activations are kept or not.

    `batch_photos` is what one worker has in one batch.
    """

    config: Config
    n_frozen: int
    kept: bool
    batch_photos: int


@dataclass(frozen=True)
class Pace:
    """Seconds of one worker: of an optimizer step, and of a photo's validation.

    `activations_s` is that of the frozen stages for one view of a photo, 0 where their activations are not kept.
    """

    step_s: float
    validate_s: float
    activations_s: float


class _Enough(Exception):
    """Ends an epoch of which enough steps were timed."""


class Bench:
    """One variant: a state, and the same few photos again and again."""

    def __init__(
        self,
        variant: Variant,
        classes: tuple[str, ...],
        root: str,
        catalog: pa.Table,
        source: MemoryPhotos,
        worker: Worker,
    ) -> None:
        """Build what is timed, from photos that `source` holds and `catalog` names."""
        accumulated = variant.config.train.accumulate_batches
        changes = {
            "train.workers": 1,
            "train.steps_per_epoch": None,
            "train.batch_size_per_worker": max(2, variant.batch_photos),
            "train.learning_rate": _NO_STEPS_RATE,
            "model.frozen_stages": variant.n_frozen,
            "train.unfreeze_every_epochs": None,
            "train.cache_frozen": "auto",
        }
        config = override(variant.config, changes)
        batch = config.train.batch_size_per_worker * accumulated
        self._job = TrainJob(
            config=config,
            train=_repeated(catalog, classes, MOST_STEPS * batch),
            val=_repeated(catalog, classes, VALIDATED_BATCHES * config.evaluate.forward_batch_photos),
            classes=classes,
            root=root,
            data={},
            run_uri="",
            attempt="",
            in_memory=True,
            device="cuda" if worker.device.type == "cuda" else "cpu",
            board=Board(),
        )
        self._variant, self._worker = variant, worker
        initial = plain_state(seeded_network(config, len(classes)).state_dict())
        self._state: TrainState = build_state(self._job, initial, worker.device)
        freeze_stages(self._state.network, variant.n_frozen)
        self._photos = PhotoInputs(source, self._job, worker)

    def pace(self, steps_s: float) -> Pace:
        """Time steps for so long, then validation."""
        activations_s, inputs = self._inputs()
        set_training_mode(self._state.network, self._variant.n_frozen)
        step_s = self._step_s(inputs, steps_s)
        size = self._job.config.evaluate.forward_batch_photos
        timed = _Timed(inputs, self._worker)
        validate(self._state.served, self._job, self._worker, timed)
        return Pace(step_s, timed.seconds / ((VALIDATED_BATCHES - 1) * size), activations_s)

    def checkpoint(self) -> tuple[int, float]:
        """Return the bytes of a checkpoint and the seconds it takes to compute, without the disk."""
        started = time.perf_counter()
        state, config = self._state, self._job.config
        weights = to_safetensors(plain_state(state.served.state_dict()))
        moving = dict(state.network.state_dict()) if state.ema is not None else None
        trainer = to_torch_file({"optimizer": state.optimizer.state_dict(), "network": moving})
        for data in (weights, trainer):
            hashlib.sha256(data).hexdigest()
        views, calibration = config.evaluate.views, Calibration.none(len(self._job.classes))
        compute_golden(state.served, Preprocessing.from_config(config.image), views, calibration)
        return len(weights) + len(trainer), time.perf_counter() - started

    def _step_s(self, inputs: NetworkInputs, steps_s: float) -> float:
        ended: list[float] = []

        def on_step(step: int, steps: int, loss: float, images_per_s: float) -> None:
            ended.append(time.perf_counter())
            if len(ended) > FEWEST_STEPS and ended[-1] - ended[0] >= steps_s:
                raise _Enough

        # Looked at in every step, a GPU has done what is timed.
        with contextlib.suppress(_Enough):
            train_epoch(
                self._state, self._job, self._worker, inputs, EpochProgress(), on_step=on_step, look_every_steps=1
            )
        return (ended[-1] - ended[0]) / (len(ended) - 1)

    def _inputs(self) -> tuple[float, NetworkInputs]:
        """Return the seconds of one view's activations, and what the network is fed with."""
        if not self._variant.kept:
            return 0.0, self._photos
        n, network = self._variant.n_frozen, self._state.network
        found: dict[bool, Tensor] = {}
        seconds = 0.0
        with torch.inference_mode(), evaluation_mode(network), self._worker.autocast():
            for of_validation in (True, False, False):  # the last is timed, the others set things up
                started = time.perf_counter()
                batch = self._batch(of_validation)
                found[of_validation] = activations_after(network, batch, [n])[n].cpu()
                seconds = (time.perf_counter() - started) / len(batch)
        train, val = (_as_kept(found[of_validation], self._worker) for of_validation in (False, True))
        return seconds, _Kept(train, val, n)

    def _batch(self, of_validation: bool) -> Tensor:
        positions = [np.arange(CHUNK)]
        batches = self._photos.validation(positions) if of_validation else self._photos.training(positions, 0)
        return next(iter(batches))


class _Timed(NetworkInputs):
    """Inputs of a validation, and the seconds from its second batch to its end."""

    def __init__(self, inputs: NetworkInputs, worker: Worker) -> None:
        self._inputs, self._worker = inputs, worker
        self.seconds = 0.0

    def trained_part(self, network: ResNet) -> nn.Module:
        return self._inputs.trained_part(network)

    def training(self, batches: Batches, epoch: int) -> Iterator[Tensor]:
        return self._inputs.training(batches, epoch)

    def validation(self, batches: Batches) -> Iterator[Tensor]:
        started = 0.0
        for number, batch in enumerate(self._inputs.validation(batches)):
            if number == 1:
                started = self._now_s()
            yield batch
        self.seconds = self._now_s() - started

    def _now_s(self) -> float:
        if self._worker.device.type == "cuda":
            torch.cuda.synchronize(self._worker.device)  # nobody has waited for what it was told to do
        return time.perf_counter()


class _Kept(NetworkInputs):
    """Activations of a chunk of photos, again and again, for the stages above them; as `CachedInputs` gives them."""

    def __init__(self, train: Tensor, val: Tensor, n_frozen: int) -> None:
        self._train, self._val, self._n_frozen = train, val, n_frozen

    def training(self, batches: Batches, epoch: int) -> Iterator[Tensor]:
        return (self._train[positions % len(self._train)] for positions in batches)

    def validation(self, batches: Batches) -> Iterator[Tensor]:
        return (self._val[positions % len(self._val)] for positions in batches)

    def trained_part(self, network: ResNet) -> nn.Module:
        return TrainedStages(network, self._n_frozen)


def _as_kept(activations: Tensor, worker: Worker) -> Tensor:
    # What inference mode made cannot be trained on.
    return activations.clone().to(worker.device, worker.dtype)


def _repeated(catalog: pa.Table, classes: tuple[str, ...], n: int) -> PhotoTable:
    at = np.arange(n) % len(catalog)
    paths, labels = catalog["path"].to_pylist(), catalog["label"].to_pylist()
    number = {name: label for label, name in enumerate(classes)}
    return PhotoTable(
        rows=catalog["row"].to_numpy()[at],
        paths=tuple(paths[i] for i in at),
        labels=np.array([number[labels[i]] for i in at], dtype=np.int64),
        keys=photo_keys(catalog)[at],
    )
