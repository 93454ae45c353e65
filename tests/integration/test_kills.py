"""A run killed again and again ends with the same bits as a run that nobody killed."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from ray_trash.model.checkpoint import open_checkpoint
from tests.e2e.command import kill, start, wait_until
from tests.integration.deadly import KilledError, watching_changes
from tests.integration.training import configured, history, train
from tests.runs import epochs, settings

# A kill may come to the thread that follows the run's events.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")

N_EPOCHS = 5
N_KILLS = 5
RICH: dict[str, Any] = {
    "train__epochs": N_EPOCHS,
    "train__ema_decay": 0.9,
    "train__warmup_steps": 3,
    "model__frozen_stages": 2,
    "model__dropout": 0.3,
    "augment__mixup_alpha": 0.5,
    "augment__preset": "strong",
    "train__checkpoint_every_min": 0.02,
}
"""Everything that a run remembers from step to step, or draws."""


@pytest.fixture(scope="module")
def unbroken(ray_cluster: None, tiny_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """Train without a kill. Returns the run, and how often it changed something on the disk."""
    folder = tmp_path_factory.mktemp("unbroken")
    with watching_changes(folder / "runs") as changes:
        train(configured(folder, tiny_photos, **RICH))
    return folder / "runs" / "tiny", changes.n


@pytest.fixture(scope="module")
def broken(
    unbroken: tuple[Path, int], joined: dict[str, str], tiny_photos: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Kill a run again and again, go on with it each time, and let it end."""
    folder, draw = tmp_path_factory.mktemp("broken"), random.Random(7)
    runs, config = folder / "runs" / "tiny", configured(folder, tiny_photos, **RICH)
    kill_inside_a_write(runs, start("train", folder / "tiny.yaml", *settings(**RICH), **joined))
    # Between nothing on the disk and a second epoch, and everywhere in between.
    for _ in range(N_KILLS - 1):
        deadly = draw.randint(1, 2 * unbroken[1] // N_EPOCHS)
        with watching_changes(folder / "runs", deadly=deadly), pytest.raises(KilledError):
            train(config, resume=True)
    assert max(epochs(runs), default=0) < N_EPOCHS, "the last kills came too late to show anything"
    train(config, resume=True)
    return runs


def kill_inside_a_write(runs: Path, child: subprocess.Popen[str]) -> None:
    """Kill a process that trains while a checkpoint is half there."""

    def half_written() -> list[Path]:
        return [path for kind in ("epoch", "within") for path in (runs / "checkpoints").glob(f".{kind}-*")]

    wait_until(lambda: bool(half_written()) or child.poll() is not None, timeout_s=360, what="a checkpoint's write")
    kill(child)
    assert half_written(), "the write was over before the kill"


def test_a_driver_killed_again_and_again_ends_with_every_epoch_once(broken: Path) -> None:
    assert epochs(broken) == list(range(1, N_EPOCHS + 1))


def test_a_kill_inside_a_checkpoint_s_write_leaves_nothing_of_it(broken: Path) -> None:
    assert all(path.name.startswith("epoch-") for path in (broken / "checkpoints").iterdir())


def test_resume_on_one_worker_equals_an_unbroken_run_to_the_bit(broken: Path, unbroken: tuple[Path, int]) -> None:
    assert history(unbroken[0]) == history(broken)
    names = [max(path.name for path in (runs / "checkpoints").iterdir()) for runs in (unbroken[0], broken)]
    assert names[0] == names[1]
    folders = [runs / "checkpoints" / names[0] for runs in (unbroken[0], broken)]
    weights = [(folder / "weights.safetensors").read_bytes() for folder in folders]
    assert weights[0] == weights[1]
    first, second = (open_checkpoint(folder, with_trainer=True).trainer() for folder in folders)
    assert first["optimizer"]["param_groups"] == second["optimizer"]["param_groups"]
    for ours, others in (
        (first["optimizer"]["state"], second["optimizer"]["state"]),
        (first["network"], second["network"]),
        (first["val_probabilities"], second["val_probabilities"]),
    ):
        torch.testing.assert_close(ours, others, rtol=0, atol=0)
