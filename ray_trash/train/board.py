"""What a run tells the person who started it: events from the workers, lines or a live display for the driver."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING

from ray_trash.cluster.carry import Carried
from ray_trash.cluster.ending import start_thread
from ray_trash.terminal.bar import Bar
from ray_trash.terminal.say import Terminal
from ray_trash.train.record import EpochRecord

if TYPE_CHECKING:
    from ray_trash.train.shared_board import SharedBoard

POLL_S = 1.0


@dataclass(frozen=True)
class Step:
    """How far an epoch has come: step of steps, loss on the first worker, photos a second over all workers."""

    epoch: int
    step: int
    steps: int
    loss: float
    images_per_s: float


@dataclass(frozen=True)
class Begun:
    """So many workers begin after some steps of an epoch, from 1, of so many steps."""

    workers: int
    epoch: int
    step: int
    steps: int


@dataclass(frozen=True)
class Computed:
    """Of so many views of photos, for how many the first worker has computed the activations of the frozen stages."""

    views: int
    wanted: int


Event = str | Begun | Step | Computed | EpochRecord
"""A line for people, or what is shown as one."""


class Board:
    """Holds events until the driver takes them, and the error that ends a run for good."""

    def __init__(self) -> None:
        """Start empty."""
        self._events: SimpleQueue[Event] = SimpleQueue()
        self._outcome: Carried[None] = Carried(None)
        self._stop = self._stopped = False
        self._nodes: dict[int, str] = {}

    def post(self, event: Event) -> None:
        """Add an event."""
        self._events.put(event)

    def ask_to_stop(self) -> None:
        """Have the workers save and stop at the next step that suits them all."""
        self._stop = True

    def asked_to_stop(self) -> bool:
        """Say whether the workers are to save and stop."""
        return self._stop

    def join(self, rank: int, node_id: str) -> None:
        """Note on which machine a worker is."""
        self._nodes[rank] = node_id

    def nodes(self) -> set[str]:
        """Return the machines that have workers."""
        return set(self._nodes.values())

    def stopped(self) -> None:
        """Note that the workers have saved and stopped, with epochs left to train."""
        self._stopped = True

    def begin(self) -> bool:
        """Make ready for workers that begin. Returns whether those before them were stopped with epochs left."""
        stopped = self._stopped
        self._stop, self._stopped, self._nodes = False, False, {}
        return stopped

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


class Display:
    """Shows events: lines as they are, and how far the epoch has come as a bar."""

    def __init__(self, terminal: Terminal) -> None:
        """Show on a terminal."""
        self._terminal = terminal
        self._bar = Bar(terminal, total=None, noun="steps", doing="getting ready to train")

    @contextmanager
    def following(
        self, board: Board | SharedBoard, *, listen: Callable[[Event], None] = lambda _: None
    ) -> Iterator[None]:
        """Show what arrives on the board while the block runs; `listen` is told of it too."""
        done = threading.Event()
        with self._bar:
            thread = start_thread(lambda: self._follow(board, done, listen), name="display")
            try:
                yield
            finally:
                done.set()
                thread.join(timeout=10)

    def _follow(self, board: Board | SharedBoard, done: threading.Event, listen: Callable[[Event], None]) -> None:
        last = False
        while not last:
            last = done.wait(POLL_S)
            try:
                events = board.take()
            except ConnectionError:
                return  # the cluster is gone, and the main thread says so
            for event in events:
                self._show(event)
                listen(event)

    def _show(self, event: Event) -> None:
        if isinstance(event, Begun):
            return  # whoever listens has the words for it
        if isinstance(event, Computed):
            doing = "activations of the frozen stages:"
            self._bar.show(event.views, total=event.wanted, noun="views of photos", doing=doing)
            return
        if not isinstance(event, Step):
            self._terminal.say(event if isinstance(event, str) else event.line())
            return
        note = f"loss {event.loss:.4f}  {event.images_per_s:.1f} photos/s"
        doing = f"epoch {event.epoch}:"
        self._bar.show(event.step, total=event.steps, noun="steps", doing=doing, note=note)
