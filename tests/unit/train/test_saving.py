"""A run that stops anywhere within an epoch goes on at the step, to the bit, and reads nothing twice."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ray_trash.config import Config
from ray_trash.dataset.stream import MemoryPhotos, PhotoTable, Transform
from ray_trash.errors import CheckpointError, DivergedError, StorageError
from ray_trash.model.checkpoint import MARKER, open_checkpoint
from ray_trash.model.network import build_network
from ray_trash.storage import Storage
from ray_trash.train import run_directory, saving
from ray_trash.train.board import Board
from ray_trash.train.job import TrainJob
from ray_trash.train.loop import train
from ray_trash.train.run_directory import update_run
from ray_trash.train.worker import Worker

N_TRAIN, N_VAL, N_EPOCHS, N_STEPS = 22, 5, 3, 6


class StoppingBoard(Board):
    """Asks to stop once so many steps were posted."""

    def __init__(self, after_steps: int | None = None) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.asked: list[bool] = []
        self._after = after_steps

    def post(self, event: Any) -> None:
        if isinstance(event, str):
            self.lines.append(event)

    def asked_to_stop(self) -> bool:
        self.asked.append(True)
        return self._after is not None and len(self.asked) >= self._after


class Squares(MemoryPhotos):
    """Random photos that remember which of them training took, in order."""

    def __init__(self) -> None:
        super().__init__([], n_threads=1)
        random = np.random.default_rng(0)
        self._photos = {row: random.integers(0, 256, (40, 48, 3), dtype=np.uint8) for row in range(N_TRAIN + N_VAL)}
        self.trained_on: list[int] = []

    def batches(self, table: PhotoTable, batches: Sequence[np.ndarray], transform: Transform) -> Iterator[np.ndarray]:
        for positions, photos in zip(batches, super().batches(table, batches, transform), strict=True):
            if len(table) == N_TRAIN:
                self.trained_on += positions.tolist()
            yield photos


def a_job(
    folder: Path,
    board: Board,
    *,
    attempt: str = "a",
    seed: int = 3,
    mixup_alpha: float = 0.4,
    model: dict[str, Any] | None = None,
    **changes: Any,
) -> TrainJob:
    config = Config.model_validate(
        {
            "name": "tiny",
            "seed": seed,
            "data": {"root": "unused"},
            "image": {"size_px": 32, "stored_short_side_px": 40},
            "augment": {"mixup_alpha": mixup_alpha},
            "model": {"weights": "none", **(model or {"frozen_stages": 2, "dropout": 0.3})},
            "train": {
                "workers": 0,
                "epochs": N_EPOCHS,
                "batch_size_per_worker": 4,
                "learning_rate": 1e-3,
                "ema_decay": 0.9,
                "unfreeze_every_epochs": 1,
                **changes,
            },
        }
    )

    def table(first: int, n: int) -> PhotoTable:
        rows = np.arange(first, first + n)
        return PhotoTable(rows, tuple(map(str, rows)), rows % 2, rows.astype(np.uint64))

    update_run(Storage.at(folder), {"attempt": attempt})
    return TrainJob(
        config=config,
        train=table(0, N_TRAIN),
        val=table(N_TRAIN, N_VAL),
        classes=("glass", "paper"),
        root="unused",
        data={"fingerprint": "f", "trained_on": ""},
        run_uri=str(folder),
        attempt=attempt,
        in_memory=True,
        device="cpu",
        board=board,
    )


@pytest.fixture(autouse=True)
def agree_after_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "AGREE_EVERY_S", 0.0)


def run(folder: Path, board: Board | None = None, **changes: Any) -> Squares:
    torch.manual_seed(0)
    initial, photos = build_network(2, dropout=0.3).state_dict(), Squares()
    worker = Worker(0, 1, torch.device("cpu"), torch.float32)
    train(a_job(folder, board or StoppingBoard(), **changes), initial, worker, photos, lambda _: None)
    return photos


def history(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in ("seconds", "images_per_s")} for line in lines]


def within(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir() if path.name.startswith("within"))


def test_a_run_stopped_again_and_again_ends_to_the_bit_as_an_unbroken_one_and_reads_no_photo_twice(
    tmp_path: Path,
) -> None:
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    photos = run(unbroken)
    stops, read = 0, list[list[int]]()
    while not history_is_whole(broken):
        assert stops < N_EPOCHS * N_STEPS, "it does not get any further"
        board = StoppingBoard(after_steps=4)
        read.append(run(broken, board, attempt=f"start {stops}").trained_on)
        stops += 1
        assert len(within(broken)) <= 1
    assert stops > N_EPOCHS, "it was not stopped within epochs"
    assert history(broken) == history(unbroken)
    ours, others = (max((folder / "checkpoints").iterdir()) for folder in (broken, unbroken))
    assert ours.name == others.name
    assert (ours / "weights.safetensors").read_bytes() == (others / "weights.safetensors").read_bytes()
    first, second = (open_checkpoint(folder, with_trainer=True).trainer() for folder in (ours, others))
    for part in ("network", "val_probabilities"):
        torch.testing.assert_close(first[part], second[part], rtol=0, atol=0)
    torch.testing.assert_close(first["optimizer"]["state"], second["optimizer"]["state"], rtol=0, atol=0)
    assert list(itertools.chain(*read)) == photos.trained_on


def history_is_whole(folder: Path) -> bool:
    return (folder / "metrics.jsonl").exists() and len(history(folder)) == N_EPOCHS


def test_a_checkpoint_within_an_epoch_is_for_resume_alone_and_gone_at_the_epoch_s_end(tmp_path: Path) -> None:
    run(tmp_path, StoppingBoard(after_steps=3))
    assert within(tmp_path) == ["within-epoch-001-step-00003"]
    with pytest.raises(CheckpointError, match="made in the middle of an epoch, for --resume alone"):
        open_checkpoint(tmp_path / "checkpoints" / within(tmp_path)[0])
    board = StoppingBoard()
    run(tmp_path, board)
    assert any("going on after step 3 of epoch 1" in line for line in board.lines)
    assert within(tmp_path) == []
    assert not [path for path in (tmp_path / "checkpoints").iterdir() if path.name.startswith(".")]


def test_one_that_is_incomplete_or_of_other_steps_is_passed_over_by_name(tmp_path: Path) -> None:
    run(tmp_path, StoppingBoard(after_steps=3))
    other = StoppingBoard()
    read = run(tmp_path, other, seed=4, epochs=1)
    assert any("within-epoch-001-step-00003: the steps of the epoch are others now" in line for line in other.lines)
    assert len(read.trained_on) == N_TRAIN
    run(tmp_path, StoppingBoard(after_steps=3))
    (tmp_path / "checkpoints" / within(tmp_path)[0] / MARKER).unlink()
    board = StoppingBoard()
    run(tmp_path, board)
    assert any("within-epoch-002-step-00003: the checkpoint is incomplete" in line for line in board.lines)
    assert len(history(tmp_path)) == N_EPOCHS


def test_the_interval_saves_within_epochs_beside_training(tmp_path: Path) -> None:
    written: list[str] = []
    put = run_directory.publish_within

    def publish_within(storage: Storage, name: str, write: Any) -> None:
        written.append(name)
        put(storage, name, write)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saving, "publish_within", publish_within)
        run(tmp_path, epochs=1, checkpoint_every_min=1e-9)
    assert written
    assert set(written) <= {f"within-epoch-001-step-{step:05d}" for step in range(1, N_STEPS + 1)}
    assert within(tmp_path) == []


def test_an_epoch_that_cannot_be_written_ends_the_run_and_is_not_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise StorageError("disk full")

    reported: list[Any] = []
    monkeypatch.setattr(saving, "publish", refuse)
    torch.manual_seed(0)
    worker = Worker(0, 1, torch.device("cpu"), torch.float32)
    job = a_job(tmp_path, StoppingBoard())
    with pytest.raises(StorageError, match="disk full"):
        train(job, build_network(2, dropout=0.3).state_dict(), worker, Squares(), reported.append)
    assert reported == []
    assert history(tmp_path) == []


def test_a_network_whose_answer_is_not_finite_ends_the_run_and_its_epoch_is_not_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(*_: Any) -> None:
        raise DivergedError("the network's answer is not finite")

    reported: list[Any] = []
    monkeypatch.setattr(saving, "save_state", diverge)
    job, worker = a_job(tmp_path, StoppingBoard()), Worker(0, 1, torch.device("cpu"), torch.float32)
    with pytest.raises(DivergedError, match="not finite"):
        train(job, build_network(2, dropout=0.3).state_dict(), worker, Squares(), reported.append)
    assert reported == []


def test_a_start_that_was_taken_over_writes_nothing(tmp_path: Path) -> None:
    job = a_job(tmp_path, StoppingBoard())
    worker = Worker(0, 1, torch.device("cpu"), torch.float32)
    with pytest.raises(StorageError, match="another start of this run has taken over"):
        train(
            replace(job, attempt="an earlier one"), build_network(2, dropout=0.3).state_dict(), worker, Squares(), print
        )
    assert not (tmp_path / "checkpoints").exists()
