from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from ray_trash.config import Config, config_from_tree
from ray_trash.dataset.stream import Batches, PhotoTable
from ray_trash.model.resnet import ResNet
from ray_trash.model.tensors import plain_state
from ray_trash.storage import Storage
from ray_trash.train.board import Board
from ray_trash.train.frozen.inputs import NetworkInputs
from ray_trash.train.job import TrainJob
from ray_trash.train.learning_rate import (
    FIRST_RATE,
    LAST_RATE,
    RANGE_PICTURE,
    RANGE_STEPS,
    RangeTest,
    choose_rate,
    find_learning_rate,
    leave_range_test,
    range_line,
    range_rate,
    read_range_test,
    smoothed,
    take_rate,
)
from ray_trash.train.state import TrainState, build_state, seeded_network
from ray_trash.train.worker import Worker

CLASSES = ("dark", "light")
N_PHOTOS = 12


class Shades(NetworkInputs):
    """What the frozen stages might say of photos that are all dark or all light, for the head alone."""

    def training(self, batches: Batches, epoch: int):
        for positions in batches:
            yield torch.stack([torch.full((2048,), 0.1 if position % 2 else -0.1) for position in positions])

    def validation(self, batches: Batches):
        return self.training(batches, 0)

    def trained_part(self, network: ResNet):
        return network.fc


def a_config(**train: object) -> Config:
    return config_from_tree(
        {
            "name": "a",
            "data": {"root": "photos"},
            "image": {"size_px": 32},
            "model": {"weights": "none", "frozen_stages": 5},
            "train": {"learning_rate": "auto", "batch_size_per_worker": 4, "precision": "fp32", **train},
        }
    )


def a_job(config: Config, run: Path = Path("run")) -> TrainJob:
    labels = np.arange(N_PHOTOS) % 2
    table = PhotoTable(np.arange(N_PHOTOS), ("photo",) * N_PHOTOS, labels, np.arange(N_PHOTOS, dtype=np.uint64))
    return TrainJob(config, table, table, CLASSES, "photos", {}, str(run), "1", True, "cpu", Board())


def a_state(job: TrainJob) -> TrainState:
    network = seeded_network(job.config, len(CLASSES))
    return build_state(job, plain_state(network.state_dict()), torch.device("cpu"))


WORKER = Worker(0, 1, torch.device("cpu"), torch.float32)


def test_rates_grow_by_the_same_factor_from_far_too_small_to_far_too_large() -> None:
    rates = [range_rate(step) for step in range(RANGE_STEPS)]
    assert rates[0] == FIRST_RATE
    assert rates[-1] == pytest.approx(LAST_RATE)
    assert np.allclose(np.diff(np.log10(rates)), 0.1)


def test_a_smoothed_loss_does_not_begin_at_zero() -> None:
    assert smoothed([2.0, 2.0, 2.0]) == pytest.approx([2.0, 2.0, 2.0])
    assert smoothed([2.0, 1.0])[1] == pytest.approx((0.9 * 2.0 + 1.0) / 1.9)


def test_a_tenth_of_the_rate_at_which_the_loss_is_lowest_is_taken() -> None:
    rate, why = choose_rate([1e-4, 1e-3, 1e-2, 1e-1], [2.0, 1.8, 1.2, 5.0])
    assert rate == 1e-3
    assert "at which the loss is lowest, down from 2 to 1.2" in why


@pytest.mark.parametrize("losses", [[], [2.0, 1.99, 3.0]])
def test_where_no_rate_lowers_the_loss_the_default_is_taken_and_it_is_said(losses: list[float]) -> None:
    rate, why = choose_rate([1e-4, 1e-3, 1e-2][: len(losses)], losses)
    assert rate == 1e-4
    assert "the default is taken" in why


def test_a_test_finds_the_same_rate_again_and_leaves_the_state_as_it_was() -> None:
    job = a_job(a_config(optimizer="sgd"))
    state = a_state(job)
    before = {name: value.clone() for name, value in state.network.state_dict().items()}
    found = find_learning_rate(state, job, WORKER, Shades())
    assert all(torch.equal(value, before[name]) for name, value in state.network.state_dict().items())
    assert not state.optimizer.state_dict()["state"]
    assert state.run.steps_done == 0
    assert found == find_learning_rate(a_state(job), job, WORKER, Shades())
    assert FIRST_RATE < found.learning_rate < LAST_RATE
    assert found.losses[0] > min(found.losses)


def test_a_test_ends_where_training_diverges() -> None:
    class Blinding(Shades):
        def training(self, batches: Batches, epoch: int):
            return (
                photos * (1.0 if step < 1 else math.inf) for step, photos in enumerate(super().training(batches, 0))
            )

    job = a_job(a_config())
    found = find_learning_rate(a_state(job), job, WORKER, Blinding())
    assert len(found.rates) == 1
    assert found.learning_rate == 1e-4


def test_every_group_is_given_its_share_of_the_rate() -> None:
    job = a_job(a_config(head_learning_rate_factor=5.0))
    optimizer = a_state(job).optimizer
    take_rate(optimizer, 1e-3)
    assert {group["name"]: group["initial_lr"] for group in optimizer.param_groups}["head"] == pytest.approx(5e-3)


def test_what_was_found_is_left_in_the_run_as_numbers_and_as_a_picture(tmp_path: Path) -> None:
    run = Storage.at(str(tmp_path))
    assert read_range_test(run) is None
    found = RangeTest((1e-3, 1e-2), (2.0, 1.0), 1e-3, "because")
    leave_range_test(run, found)
    assert read_range_test(run) == found
    assert (tmp_path / RANGE_PICTURE).read_bytes().startswith(b"\x89PNG")
    assert range_line(found) == "learning rate 0.001, by 2 steps of a range test: because"
