"""Photos that are being answered, how fast, and so whether one more request can be answered in time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

WINDOW_S = 20.0
"""How far back the rate looks: several requests of a slow machine."""
MIN_BUSY_S = 1.0
"""A rate over less time says nothing."""


class Backlog:
    """Told by one thread of photos in work, of which there are `waiting`, and of photos done."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start with no photos and no rate."""
        self.waiting = 0
        self._clock = clock
        self._busy_since_s = 0.0
        self._done: deque[tuple[float, int]] = deque()
        self._photos_per_s: float | None = None

    def begin(self, n: int) -> None:
        """Take photos into work."""
        if not self.waiting:
            self._busy_since_s = self._clock()
        self.waiting += n

    def end(self, n: int, *, answered: bool) -> None:
        """Count photos that are no longer in work."""
        self.waiting -= n
        if not answered:
            return
        now_s = self._clock()
        self._done.append((now_s, n))
        while self._done[0][0] < now_s - WINDOW_S:
            self._done.popleft()
        busy_s = min(WINDOW_S, now_s - self._busy_since_s)
        if busy_s >= MIN_BUSY_S:
            # What was reached can be reached again. Of the time since all was done last, a stall may be most; of the
            # whole window, most may be idle.
            busy = sum(photos for at_s, photos in self._done if at_s >= now_s - busy_s) / busy_s
            self._photos_per_s = max(busy, sum(photos for _, photos in self._done) / WINDOW_S)
        elif not self.waiting:
            # All is done at once again: a rate from worse times would turn away what can be answered.
            self._photos_per_s = None

    def expected_s(self, n: int) -> float:
        """Estimate when `n` more photos would be answered; 0 where nothing is known."""
        if self._photos_per_s is None or not self.waiting:
            return 0.0
        return (self.waiting + n) / self._photos_per_s
