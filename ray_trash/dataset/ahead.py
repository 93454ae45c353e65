"""What iterators give, taken by threads ahead of whoever asks.

Iterators that call Ray take a while to begin, so one begins while the one before it comes to its end.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ray_trash.cluster.ending import start_thread

Item = TypeVar("Item")
Prepared = TypeVar("Prepared")
PREFETCH_BATCHES = 2
"""Batches prepared ahead of the one that is being trained on."""
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
    """A part of a sequence: its `n_items`, and what makes them; that is closed if they are not wanted any more."""

    begin: Callable[[], Generator[Item]]
    n_items: int


class Sequel(Generic[Item]):
    """Items of parts one after another, each part taken by a thread of its own.

    A part begins when only `n_last` items of the one before it are still to come; after the last part, `then` is
    called at that moment. At most `n_ready` items of a part wait for whoever asks.
    """

    def __init__(
        self, parts: Sequence[Part[Item]], *, n_ready: int, n_last: int, then: Callable[[], None], name: str
    ) -> None:
        """Prepare everything, and begin nothing."""
        self._takers = list[_Taker[Item]]()
        for part in reversed(parts):
            follow = self._takers[0].begin if self._takers else then
            self._takers.insert(0, _Taker(part, n_ready, n_last, follow, name))

    def begin(self) -> None:
        """Begin with the first part, unless that has been done."""
        self._takers[0].begin()

    def items(self, timeout_s: float) -> Iterator[Item]:
        """Yield the items in order; that one takes longer than `timeout_s` is a `TimeoutError`."""
        for taker in self._takers:
            taker.begin()
            yield from taker.items(timeout_s)

    def stop(self) -> None:
        """Begin nothing any more, and have what has begun end."""
        for taker in self._takers:
            taker.stop()

    def close(self) -> None:
        """Stop, and wait some seconds for the threads."""
        self.stop()
        deadline_s = time.monotonic() + _CLOSE_S
        for taker in self._takers:
            taker.join(max(0.0, deadline_s - time.monotonic()))


class _Taker(Generic[Item]):
    """One part, and the thread that takes its items."""

    def __init__(self, part: Part[Item], n_ready: int, n_last: int, follow: Callable[[], None], name: str) -> None:
        self._part, self._n_ready, self._n_last, self._name = part, n_ready, n_last, name
        self._follow: Callable[[], None] | None = follow
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()
        self._ready = deque[Item]()
        self._ended = self._stopped = False
        self._error: BaseException | None = None

    def begin(self) -> None:
        with self._changed:
            if self._thread is None and not self._stopped:
                self._thread = start_thread(self._take, name=self._name)

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._ready.clear()
            self._changed.notify_all()

    def join(self, timeout_s: float) -> None:
        if self._thread is not None:
            self._thread.join(timeout_s)

    def items(self, timeout_s: float) -> Iterator[Item]:
        while True:
            with self._changed:
                if not self._changed.wait_for(lambda: self._ready or self._ended, timeout_s):
                    raise TimeoutError
                if not self._ready:
                    break
                item = self._ready.popleft()
                self._changed.notify_all()
            yield item
        if self._error is not None:
            raise self._error

    def _take(self) -> None:
        try:
            with closing(self._part.begin()) as items:
                self._hand_on(items)
        except BaseException as error:
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _hand_on(self, items: Iterator[Item]) -> None:
        n_left = self._part.n_items
        self._follow_at(n_left)
        for item in items:
            with self._changed:
                self._changed.wait_for(lambda: len(self._ready) < self._n_ready or self._stopped)
                if self._stopped:
                    return
                self._ready.append(item)
                self._changed.notify_all()
            n_left -= 1
            self._follow_at(n_left)

    def _follow_at(self, n_left: int) -> None:
        if n_left <= self._n_last and self._follow is not None:
            follow, self._follow = self._follow, None
            follow()
