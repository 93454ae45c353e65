"""What iterators give, taken by threads ahead of whoever asks.

Iterators that call Ray take a while to begin, so one begins while the one before it is still at work.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ray_trash.cluster.ending import start_thread

Item = TypeVar("Item")
Prepared = TypeVar("Prepared")
PREFETCH_BATCHES = 2
"""Batches prepared ahead of the one that is being trained on."""
_WORK_LEFT, _MOST = 0.5, 2.0
"""Of what is made in one go: what is still to come when more of it begins, and all that may be there at a time."""
_CLOSE_S = 5.0
"""How long threads that were told to end are waited for: they end with the next item."""


def prepared_ahead(
    prepare: Callable[[NDArray[np.int64]], Prepared], batches: Iterable[NDArray[np.int64]], *, n_threads: int
) -> Iterator[Prepared]:
    """Yield what `prepare` makes of each batch of positions, in order, made by threads ahead of whoever asks."""
    pending: deque[Future[Prepared]] = deque()
    with ThreadPoolExecutor(n_threads, thread_name_prefix="photos") as pool:
        try:
            for positions in batches:
                pending.append(pool.submit(prepare, positions))
                if len(pending) > max(PREFETCH_BATCHES, n_threads):
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


@dataclass(frozen=True)
class Part(Generic[Item]):
    """Some items, and what makes them, each with its number from 0, in any order; closed if they are not wanted.

    `n_whole` is how many items like these are made in one go, at most.
    """

    begin: Callable[[], Generator[tuple[int, Item]]]
    n_items: int
    n_whole: int


@dataclass(eq=False)
class Place(Generic[Item]):
    """A part on a belt, and what has come of it."""

    part: Part[Item]
    thread: threading.Thread | None = None
    items: dict[int, Item] = field(default_factory=dict)
    n_come: int = 0
    n_taken: int = 0
    has_ended: bool = False
    is_dropped: bool = False
    error: BaseException | None = None

    @property
    def to_come(self) -> float:
        """What is still to come of a part that has begun, 1 for as much as is made in one go."""
        return 0.0 if self.has_ended else (self.part.n_items - self.n_come) / self.part.n_whole

    @property
    def to_take(self) -> float:
        """What is still to be taken of it, or to come first."""
        n_left = len(self.items) if self.has_ended else self.part.n_items - self.n_taken
        return n_left / self.part.n_whole


class Belt(Generic[Item]):
    """Parts one after another, each taken by a thread of its own ahead of whoever asks for the items.

    Nothing begins before something is asked for. Then a part begins as soon as at most half of what is made in one go
    is still to come of those before it, so that what makes them has work while the next one begins; but never so that
    more than two times as much would be on its way or wait.
    """

    def __init__(self, name: str) -> None:
        """Begin nothing; `name` is that of the threads."""
        self._name = name
        self._changed = threading.Condition()
        self._places = list[Place[Item]]()
        self._threads = list[threading.Thread]()
        self._is_asked = False

    def put(self, parts: Iterable[Part[Item]], *, first: bool = False) -> list[Place[Item]]:
        """Put parts behind all others, or before them. Returns where their items come."""
        places = [Place(part) for part in parts]
        with self._changed:
            self._places = [*places, *self._places] if first else [*self._places, *places]
            self._begin_more()
        return places

    def items(self, places: Sequence[Place[Item]], timeout_s: float) -> Iterator[Item]:
        """Yield what comes there, in order; that one takes longer than `timeout_s` is a `TimeoutError`."""
        for place in places:
            while (item := self._next(place, timeout_s)) is not None:
                yield item
            if place.error is not None:
                raise place.error

    def drop(self, places: Sequence[Place[Item]]) -> None:
        """Have these end, or never begin."""
        with self._changed:
            for place in places:
                place.is_dropped = True
                place.items.clear()
            self._places = [place for place in self._places if not place.is_dropped]
            self._begin_more()

    def close(self) -> None:
        """Drop everything, and wait some seconds for the threads."""
        with self._changed:
            self._is_asked = False
            self.drop(self._places)
        deadline_s = time.monotonic() + _CLOSE_S
        for thread in self._threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))

    def _next(self, place: Place[Item], timeout_s: float) -> Item | None:
        with self._changed:
            self._is_asked = True
            if place.thread is None:
                self._begin(place)
            if not self._changed.wait_for(lambda: place.n_taken in place.items or place.has_ended, timeout_s):
                raise TimeoutError
            item = place.items.pop(place.n_taken, None)
            if item is None:
                return None
            place.n_taken += 1
            self._begin_more()
            return item

    def _begin_more(self) -> None:
        if not self._is_asked:
            return
        to_come = to_take = 0.0
        for place in self._places:
            if place.thread is None:
                if to_come > _WORK_LEFT or to_take + place.to_take > _MOST:
                    return
                self._begin(place)
            to_come, to_take = to_come + place.to_come, to_take + place.to_take

    def _begin(self, place: Place[Item]) -> None:
        place.thread = start_thread(partial(self._make, place), name=self._name)
        self._threads = [*(thread for thread in self._threads if thread.is_alive()), place.thread]

    def _make(self, place: Place[Item]) -> None:
        try:
            with closing(place.part.begin()) as items:
                for number, item in items:
                    with self._changed:
                        if place.is_dropped:
                            break
                        place.items[number] = item
                        place.n_come += 1
                        self._begin_more()
                        self._changed.notify_all()
        except BaseException as error:
            place.error = error
        finally:
            with self._changed:
                place.has_ended = True
                self._begin_more()
                self._changed.notify_all()
