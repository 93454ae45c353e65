"""What a run tells the person who started it: events from the workers, lines or a live display for the driver."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import ray
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ray_trash.cluster.carry import Carried
from ray_trash.cluster.ending import start_thread
from ray_trash.cluster.waiting import fetch
from ray_trash.terminal.say import Terminal
from ray_trash.train.record import EpochRecord

POLL_S = 1.0


@dataclass(frozen=True)
class Step:
    """How far an epoch has come: step of steps, loss on the first worker, photos a second over all workers."""

    epoch: int
    step: int
    steps: int
    loss: float
    images_per_s: float


Event = str | Step | EpochRecord
"""A line for people, or what is shown as one."""


class Board:
    """Holds events until the driver takes them, and the error that ends a run for good."""

    def __init__(self) -> None:
        """Start empty."""
        self._events: SimpleQueue[Event] = SimpleQueue()
        self._outcome: Carried[None] = Carried(None)

    def post(self, event: Event) -> None:
        """Add an event."""
        self._events.put(event)

    def asked_to_stop(self) -> bool:
        """Say whether the workers are to save and stop; only what is shared can be told from outside."""
        return False

    def take(self) -> list[Event]:
        """Return the events since the last call; only one thread takes."""
        return [self._events.get() for _ in range(self._events.qsize())]

    def end(self, outcome: Carried[None]) -> None:
        """Keep the first error: a restarted worker must not try again."""
        if self._outcome.error is None:
            self._outcome = outcome

    def outcome(self) -> Carried[None]:
        """Return the error that ended the run, if one did."""
        return self._outcome


class SharedBoard:
    """A board that workers in other processes post to: an actor, which takes no CPU of the cluster."""

    def __init__(self) -> None:
        """Start the actor."""
        self._actor: Any = ray.remote(Board).options(num_cpus=0).remote()

    def post(self, event: Event) -> None:
        """Add an event, without waiting for its arrival."""
        self._actor.post.remote(event)

    def asked_to_stop(self) -> bool:
        """Say whether the workers are to save and stop."""
        return False

    def take(self) -> list[Event]:
        """Return the events since the last call; `RayError` where the cluster is gone, or busy for seconds."""
        events: list[Event] = ray.get(self._actor.take.remote(), timeout=10)
        return events

    def end(self, outcome: Carried[None]) -> None:
        """Keep the first error."""
        fetch(self._actor.end.remote(outcome), what="the run's board")

    def outcome(self) -> Carried[None]:
        """Return the error that ended the run, if one did."""
        outcome: Carried[None] = fetch(self._actor.outcome.remote(), what="the run's board")
        return outcome


class Display:
    """Shows events: a live bar on a terminal, plain lines elsewhere."""

    def __init__(self, terminal: Terminal) -> None:
        """Show on a terminal."""
        self._terminal = terminal
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total} steps  {task.fields[note]}"),
            TimeRemainingColumn(),
            console=terminal.console,
            transient=True,
            disable=not terminal.is_live,
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

    def _show(self, event: Event) -> None:
        if not isinstance(event, Step):
            self._terminal.say(event if isinstance(event, str) else event.line())
        elif self._terminal.is_live:
            if self._bar is None:
                self._bar = self._progress.add_task("", note="")
            epoch, note = f"epoch {event.epoch}", f"loss {event.loss:.4f}  {event.images_per_s:.1f} photos/s"
            self._progress.update(self._bar, completed=event.step, total=event.steps, description=epoch, note=note)
