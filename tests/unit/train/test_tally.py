"""A gradient that is not finite is heard of late where nobody waits for the device, and changes nothing until then."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ray_trash.config import Config
from ray_trash.dataset.stream import Batches, PhotoTable
from ray_trash.errors import DivergedError
from ray_trash.model.network import build_network
from ray_trash.model.resnet import ResNet
from ray_trash.train.epoch import train_epoch
from ray_trash.train.frozen.inputs import NetworkInputs
from ray_trash.train.job import TrainJob
from ray_trash.train.moving_average import MovingAverage
from ray_trash.train.progress import EpochProgress, LearningRates
from ray_trash.train.state import TrainState, build_state
from ray_trash.train.tally import Tally
from ray_trash.train.worker import Worker

N, STEPS, BAD_STEP = 24, 12, 5
CPU = Worker(0, 1, torch.device("cpu"), torch.float32)


class Shades(NetworkInputs):
    """What frozen stages might say of photos, for the head alone; those of one step may blind it."""

    def __init__(self, bad_step: int | None) -> None:
        self._bad_step = bad_step

    def training(self, batches: Batches, epoch: int) -> Iterator[Tensor]:
        for step, positions in enumerate(batches):
            shade = torch.tensor(positions % 2 - 0.5, dtype=torch.float32).view(-1, 1).expand(-1, 2048)
            yield shade * (math.inf if step == self._bad_step else 1.0)

    def validation(self, batches: Batches) -> Iterator[Tensor]:
        return self.training(batches, 0)

    def trained_part(self, network: ResNet) -> nn.Module:
        return network.fc


def a_job(optimizer: str = "adamw") -> TrainJob:
    train = {"batch_size_per_worker": 2, "learning_rate": 1e-3, "optimizer": optimizer, "warmup_steps": 3}
    config = Config.model_validate(
        {
            "name": "tally",
            "data": {"root": "unused"},
            "model": {"weights": "none", "frozen_stages": 5},
            "train": {"epochs": 2, "clip_gradient_norm": 1.0, **train},
        }
    )
    table = PhotoTable(np.arange(N), tuple(map(str, range(N))), np.arange(N) % 2, np.arange(N, dtype=np.uint64))
    return cast(TrainJob, SimpleNamespace(config=config, classes=("a", "b"), train=table, val=table))


def a_state(job: TrainJob) -> TrainState:
    torch.manual_seed(0)
    return build_state(job, build_network(2).state_dict(), CPU.device)


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_a_gradient_that_is_not_finite_ends_an_epoch_late_with_the_same_words_and_no_step_after_it(
    optimizer: str,
) -> None:
    job = a_job(optimizer)
    at_once, later = a_state(job), a_state(job)
    messages, trained = [], []
    for state, every in ((at_once, 1), (later, 4)):
        steps = list[int]()

        def on_step(
            step: int, of: int, loss: float, images_per_s: float, state: TrainState = state, seen: list[int] = steps
        ) -> None:
            seen.append(step)
            if step == BAD_STEP:  # as many as are before it
                trained.append(copy.deepcopy(state.network.fc.state_dict()))

        with pytest.raises(DivergedError) as diverged:
            train_epoch(state, job, CPU, Shades(BAD_STEP), EpochProgress(), on_step=on_step, look_every_steps=every)
        messages.append(str(diverged.value))
        assert steps[-1] == (BAD_STEP if every == 1 else 11)
    assert messages[0] == messages[1]
    assert f"epoch 1, step {BAD_STEP + 1}: the gradient is nan" in messages[0]
    for state, before in zip((at_once, later), trained, strict=True):
        for name, value in state.network.fc.state_dict().items():
            assert torch.equal(value, before[name])
            assert value.isfinite().all()


def test_looking_seldom_changes_no_figure_and_no_weight() -> None:
    job, found, weights = a_job(), [], list[Tensor]()
    for every in (1, 5, 100):
        state, progress = a_state(job), EpochProgress()
        figures = train_epoch(state, job, CPU, Shades(None), progress, look_every_steps=every)
        assert figures is not None
        found.append((figures.loss, figures.accuracy, progress.loss_sum, progress.correct, progress.seen))
        weights.append(state.network.fc.weight)
    assert found[0] == found[1] == found[2]
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[0], weights[2])
    assert found[0][4] == N


def test_sums_go_on_from_those_of_a_checkpoint_and_are_brought_up_to_date_when_asked() -> None:
    progress = EpochProgress(step=3, loss_sum=7.5, correct=4.0, seen=6.0)
    tally = Tally(progress, 0, CPU.device, look_every_steps=100)
    one, rates = torch.tensor(1.0), LearningRates(1e-3, 1e-3)
    tally.add(3, torch.tensor(1.25), correct=one, norm=one, rates=rates, own=2, photos=2)
    assert (progress.loss_sum, progress.correct) == (7.5, 4.0)
    tally.settle()
    assert (progress.loss_sum, progress.correct, tally.last_loss) == (8.75, 5.0, 0.625)
    assert tally.diverged == 0


def test_a_moving_average_moves_every_weight_as_one_by_one_and_copies_counts() -> None:
    def networks() -> tuple[nn.Sequential, nn.Sequential]:
        torch.manual_seed(1)
        average, trained = (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)) for _ in range(2))
        trained(torch.rand(2, 3, 8, 8))
        return average, trained

    (average, trained), (expected, followed) = networks(), networks()
    follower = MovingAverage(average, trained)
    for step in range(3):
        follower.follow(0.5, step)
        share = 1 - min(0.5, (1 + step) / (10 + step))
        for own, other in zip(expected.state_dict().values(), followed.state_dict().values(), strict=True):
            if own.is_floating_point():
                own.lerp_(other, share)
            else:
                own.copy_(other)
    assert average.state_dict().keys() == expected.state_dict().keys()
    for name, value in average.state_dict().items():
        assert torch.equal(value, expected.state_dict()[name]), name
    assert average[1].num_batches_tracked == 1
