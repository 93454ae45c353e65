"""What a run says on its way reaches the person who started it, every line once."""

from __future__ import annotations

import io
import threading

import pytest
from rich.console import Console

from ray_trash.cluster.carry import Carried
from ray_trash.errors import DataError
from ray_trash.terminal.say import Terminal
from ray_trash.train.board import Board, Computed, Display, Step
from ray_trash.train.record import EpochRecord

RECORD = EpochRecord(
    epoch=3,
    metrics={"train_loss": 0.5, "train_accuracy": 0.5, "val_loss": 0.25, "val_accuracy": 0.875, "val_macro_f1": 0.75},
    learning_rate=1e-3,
    head_learning_rate=1e-2,
    frozen_stages=5,
    steps=2,
    images_per_s=21.5,
    seconds=82.0,
    is_best=True,
    stop_reason="",
    checkpoint="epoch-003-val_loss-0.2500",
)


def test_every_event_is_taken_once_while_others_are_posted() -> None:
    board = Board()

    def post(first: int) -> None:
        for number in range(first, first + 2000):
            board.post(str(number))

    threads = [threading.Thread(target=post, args=(first,)) for first in (0, 2000)]
    for thread in threads:
        thread.start()
    taken = []
    while any(thread.is_alive() for thread in threads):
        taken += board.take()
    taken += board.take()
    assert sorted(int(str(event)) for event in taken) == list(range(4000))


def test_the_first_error_is_the_one_that_is_kept() -> None:
    board = Board()
    assert board.outcome().error is None
    board.end(Carried(None, DataError("first")))
    board.end(Carried(None, DataError("second")))
    with pytest.raises(DataError, match="first"):
        board.outcome().value()


def test_how_far_the_activations_are_is_shown_before_the_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray_trash.terminal.bar.FIRST_LINE_S", 0.0)
    monkeypatch.setattr("ray_trash.terminal.bar.LINE_EVERY_S", 0.0)
    board, out = Board(), io.StringIO()
    with Display(Terminal(Console(file=out, width=200))).following(board):
        board.post(Computed(views=64, wanted=3000))
        board.post(Step(epoch=1, step=1, steps=2, loss=0.5, images_per_s=20.0))
    lines = [line for line in out.getvalue().splitlines() if "getting ready" not in line]
    assert "activations of the frozen stages: 64/3000 views of photos" in lines
    assert any(line.startswith("epoch 1: 1/2 steps  loss 0.5000  20.0 photos/s") for line in lines)


def test_away_from_a_terminal_events_are_lines_also_those_posted_at_the_very_end() -> None:
    board, out = Board(), io.StringIO()
    with Display(Terminal(Console(file=out, width=200))).following(board):
        board.post("[23 photos] to train on")
        board.post(Step(epoch=3, step=1, steps=2, loss=0.5, images_per_s=20.0))
        board.post(RECORD)
    assert out.getvalue().splitlines() == [
        "[23 photos] to train on",
        "epoch   3  train_loss 0.5000  val_loss 0.2500  val_accuracy 0.8750  val_macro_f1 0.7500"
        "  21.5 photos/s  82.0 s  best",
    ]
