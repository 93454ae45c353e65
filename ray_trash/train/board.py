"""What a run tells the person who started it: events from the workers, lines or a live display for the driver."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ray_trash.cluster.ending import start_thread
from ray_trash.cluster.waiting import fetch
from ray_trash.terminal.say import Terminal

POLL_S = 1.0
_METRICS = ("train_loss", "val_loss", "val_accuracy", "val_macro_f1")


class Board:
    """Holds events until the driver takes them, and the error that ends a run for good."""

    def __init__(self) -> None:
        """Start empty."""
        self._lock = threading.Lock()
        self._events: list[dict[str, Any]] = []
        self._error: Exception | None = None

    def post(self, event: dict[str, Any]) -> None:
        """Add an event; `kind` is `say`, `step` or `epoch`."""
        with self._lock:
            self._events.append(event)

    def take(self) -> list[dict[str, Any]]:
        """Return the events since the last call."""
        with self._lock:
            events, self._events = self._events, []
        return events

    def fail(self, error: Exception) -> None:
        """Keep the first error of ours: a restarted worker must not try again."""
        self._error = self._error or error

    def error(self) -> Exception | None:
        """Return the error that ended the run, if one did."""
        return self._error


class SharedBoard:
    """A board that workers in other processes post to: an actor, which takes no CPU of the cluster."""

    def __init__(self) -> None:
        """Start the actor."""
        self._actor: Any = ray.remote(Board).options(num_cpus=0).remote()

    def post(self, event: dict[str, Any]) -> None:
        """Add an event, without waiting for its arrival."""
        self._actor.post.remote(event)

    def take(self) -> list[dict[str, Any]]:
        """Return the events since the last call.

        Raises:
            ray.exceptions.RayError: The cluster is gone, or busy for seconds.
        """
        events: list[dict[str, Any]] = ray.get(self._actor.take.remote(), timeout=10)
        return events

    def fail(self, error: Exception) -> None:
        """Keep the first error of ours."""
        fetch(self._actor.fail.remote(error), what="the run's board")

    def error(self) -> Exception | None:
        """Return the error that ended the run, if one did."""
        error: Exception | None = fetch(self._actor.error.remote(), what="the run's board")
        return error


class Display:
    """Shows events: a live bar on a terminal, plain lines elsewhere."""

    def __init__(self, terminal: Terminal) -> None:
        """Show on a terminal."""
        self._terminal = terminal
        self._live = terminal.is_live
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total} steps  {task.fields[note]}"),
            TimeRemainingColumn(),
            console=terminal.console,
            transient=True,
            disable=not self._live,
        )
        self._bar: TaskID | None = None

    @contextmanager
    def following(self, board: Board | SharedBoard) -> Iterator[None]:
        """Show what arrives on the board while the block runs."""
        done = threading.Event()
        with self._progress:
            thread = start_thread(lambda: self._follow(board, done), name="display")
            try:
                yield
            finally:
                done.set()
                thread.join(timeout=10)

    def _follow(self, board: Board | SharedBoard, done: threading.Event) -> None:
        last = False
        while not last:
            last = done.wait(POLL_S)
            try:
                events = board.take()
            except ray.exceptions.RayError:
                return  # the cluster is gone, and the main thread says so
            for event in events:
                self._show(event)

    def _show(self, event: Mapping[str, Any]) -> None:
        if event["kind"] == "say":
            self._terminal.say(event["text"])
        elif event["kind"] == "epoch":
            self._terminal.say(epoch_line(event["record"]))
        elif self._live:
            if self._bar is None:
                self._bar = self._progress.add_task("", total=event["steps"], note="")
            self._progress.update(
                self._bar,
                completed=event["step"],
                total=event["steps"],
                description=f"epoch {event['epoch']}",
                note=f"loss {event['loss']:.4f}  {event['images_per_s']:.1f} photos/s",
            )


def epoch_line(record: Mapping[str, Any]) -> str:
    """Say one epoch in one line."""
    metrics = "  ".join(f"{name} {record[name]:.4f}" for name in _METRICS)
    best = "  best" if record["is_best"] else ""
    return (
        f"epoch {record['epoch']:>3}  {metrics}  {record['images_per_s']:.1f} photos/s  {record['seconds']:.1f} s{best}"
    )
