"""What a run says on its way reaches the person who started it, every line once."""

from __future__ import annotations

import io
import threading

from rich.console import Console

from ray_trash.terminal.say import Terminal
from ray_trash.train.board import Board, Display

RECORD = {
    "epoch": 3,
    "train_loss": 0.5,
    "val_loss": 0.25,
    "val_accuracy": 0.875,
    "val_macro_f1": 0.75,
    "images_per_s": 21.5,
    "seconds": 82.0,
    "is_best": True,
}


def test_every_event_is_taken_once_while_others_are_posted() -> None:
    board = Board()

    def post(first: int) -> None:
        for number in range(first, first + 2000):
            board.post({"number": number})

    threads = [threading.Thread(target=post, args=(first,)) for first in (0, 2000)]
    for thread in threads:
        thread.start()
    taken = []
    while any(thread.is_alive() for thread in threads):
        taken += board.take()
    taken += board.take()
    assert sorted(event["number"] for event in taken) == list(range(4000))


def test_the_first_error_is_the_one_that_is_kept() -> None:
    board = Board()
    assert board.error() is None
    board.fail(ValueError("first"))
    board.fail(ValueError("second"))
    assert str(board.error()) == "first"


def test_away_from_a_terminal_events_are_lines_also_those_posted_at_the_very_end() -> None:
    board, out = Board(), io.StringIO()
    with Display(Terminal(Console(file=out, width=200))).following(board):
        board.post({"kind": "say", "text": "[23 photos] to train on"})
        board.post({"kind": "step", "epoch": 3, "step": 1, "steps": 2, "loss": 0.5, "images_per_s": 20.0})
        board.post({"kind": "epoch", "record": RECORD})
    assert out.getvalue().splitlines() == [
        "[23 photos] to train on",
        "epoch   3  train_loss 0.5000  val_loss 0.2500  val_accuracy 0.8750  val_macro_f1 0.7500"
        "  21.5 photos/s  82.0 s  best",
    ]
