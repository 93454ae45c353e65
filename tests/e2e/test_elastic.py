"""Workers of real DDP, without Ray: they stop at the same step, and fewer go on as if nothing had happened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from ray_trash.model import network
from ray_trash.model.network import build_network
from ray_trash.train import saving
from ray_trash.train.loop import train
from ray_trash.train.worker import Worker
from tests.shallow import build_shallow_resnets
from tests.unit.train.test_saving import N_EPOCHS, Squares, StoppingBoard, a_job, history, within

CHANGES: dict[str, Any] = {"workers": (1, 2), "batch_size_per_worker": 2, "unfreeze_every_epochs": None}
FROZEN = {"frozen_stages": 5, "dropout": 0.0}


def work(rank: int, world: int, folder: Path, stop_after: int | None) -> None:
    """Train as one of several workers, or alone."""
    if world > 1:
        store = f"file://{folder}/rendezvous"
        dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world)
    board = StoppingBoard(stop_after if rank == 0 else None)
    torch.manual_seed(0)
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saving, "AGREE_EVERY_S", 0.0)
        build_shallow_resnets(network, patch)
        initial = build_network(2).state_dict()
        job = a_job(folder, board, model=FROZEN, mixup_alpha=0.0, **CHANGES)
        train(job, initial, Worker(rank, world, torch.device("cpu"), torch.float32), Squares(), lambda _: None)
    torch.set_num_threads(n_threads)
    if world > 1:
        dist.destroy_process_group()


def test_two_workers_stop_at_the_same_step_and_one_goes_on_with_the_same_steps_rates_and_losses(
    tmp_path: Path,
) -> None:
    alone, changing = tmp_path / "alone", tmp_path / "changing"
    for folder in (alone, changing):
        folder.mkdir()
    work(0, 1, alone, None)
    spawn(work, (2, changing, 8), nprocs=2)
    # At which step depends on how long the epoch before took to be written.
    assert [name.rpartition("-")[0] for name in within(changing)] == ["within-epoch-002-step"]
    assert len(history(changing)) == 1
    work(0, 1, changing, None)
    assert len(history(changing)) == N_EPOCHS
    for ours, others in zip(history(changing), history(alone), strict=True):
        for name in ("epoch", "steps", "learning_rate", "head_learning_rate", "val_n"):
            assert ours[name] == others[name], name
        for name in ("train_loss", "train_accuracy", "val_loss"):
            assert ours[name] == pytest.approx(others[name], rel=1e-4), name
