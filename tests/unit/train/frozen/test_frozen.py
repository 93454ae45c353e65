"""The real training step: not a bit of a frozen stage moves, and its learning rates are those that were asked for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from ray_trash.config import Config
from ray_trash.dataset.stream import MemoryPhotos, PhotoTable
from ray_trash.model.network import STAGES, build_network, freeze_stages, set_training_mode, stage_modules
from ray_trash.train.epoch import train_epoch
from ray_trash.train.frozen.inputs import PhotoInputs
from ray_trash.train.job import TrainJob
from ray_trash.train.progress import EpochProgress
from ray_trash.train.state import build_state
from ray_trash.train.worker import Worker

N = 6


class Squares(MemoryPhotos):
    """Random photos, held without Ray."""

    def __init__(self) -> None:
        super().__init__([], n_threads=1)
        random = np.random.default_rng(0)
        self._photos = {row: random.integers(0, 256, (40, 48, 3), dtype=np.uint8) for row in range(N)}


def a_job(frozen: int, **train: Any) -> TrainJob:
    config = Config.model_validate(
        {
            "name": "frozen",
            "data": {"root": "unused"},
            "image": {"size_px": 32, "stored_short_side_px": 40},
            "model": {"weights": "none", "frozen_stages": frozen},
            "train": {"batch_size_per_worker": 3, "learning_rate": 1e-3, "weight_decay": 0.1, **train},
        }
    )
    labels = np.arange(N) % 2
    table = PhotoTable(np.arange(N), tuple(map(str, range(N))), labels, np.arange(N, dtype=np.uint64))
    return cast(TrainJob, SimpleNamespace(config=config, classes=("a", "b"), train=table, val=table))


def initial_weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {key: value.clone() for key, value in build_network(2).state_dict().items()}


def test_a_network_begins_with_its_first_weights_and_draws_no_random_number() -> None:
    initial = initial_weights()
    before = torch.get_rng_state()
    state = build_state(a_job(0), initial, torch.device("cpu"))
    assert torch.equal(torch.get_rng_state(), before)
    began_with = state.network.state_dict()
    assert began_with.keys() == initial.keys()
    assert all(torch.equal(value, initial[name]) for name, value in began_with.items())


@pytest.mark.parametrize("frozen", range(6))
def test_no_bit_of_a_frozen_stage_moves_in_an_epoch_and_all_others_do(frozen: int) -> None:
    job, initial, cpu = a_job(frozen), initial_weights(), torch.device("cpu")
    state = build_state(job, initial, cpu)
    freeze_stages(state.network, frozen)
    set_training_mode(state.network, frozen)
    worker = Worker(0, 1, cpu, torch.float32)
    train_epoch(state, job, worker, PhotoInputs(Squares(), job, worker), EpochProgress())
    names = {id(tensor): name for name, tensor in state.network.state_dict(keep_vars=True).items()}
    for number, stage in enumerate(STAGES):
        for module in stage_modules(state.network)[stage]:
            for tensor in (*module.parameters(), *module.buffers()):
                name = names[id(tensor)]
                assert torch.equal(tensor.data, initial[name]) == (number < frozen), name
    assert not torch.equal(state.network.fc.weight, initial["fc.weight"])


@pytest.mark.parametrize(("frozen", "body"), [(0, 1e-3), (4, 1e-3), (5, 1e-2)])
def test_an_epoch_s_learning_rates_are_those_of_its_first_step_of_the_last_stage_and_the_head(
    frozen: int, body: float
) -> None:
    rates = {"head_learning_rate_factor": 10.0, "warmup_steps": 3, "schedule": "cosine"}
    decay = {"stage_learning_rate_decay": 0.5} if frozen < 4 else {}
    job, cpu = a_job(frozen, **rates, **decay), torch.device("cpu")
    state = build_state(job, initial_weights(), cpu)
    worker = Worker(0, 1, cpu, torch.float32)
    figures = train_epoch(state, job, worker, PhotoInputs(Squares(), job, worker), EpochProgress())
    assert figures is not None
    assert figures.steps == 2
    # The first of three steps of warm-up.
    assert figures.rates == pytest.approx((body / 4, 1e-2 / 4))
