"""How far a scoring has come: a live bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

LINE_EVERY_S = 10.0


class Display:
    """Shows the photos that are done, their rate since the first answer, and the time left."""

    def __init__(self, console: Console, *, total: int, done: int) -> None:
        """Begin with what an earlier run has done."""
        self._console, self._total, self._done = console, total, done
        self._pace = Pace()
        self._shown_at = time.monotonic()
        self._progress = Progress(
            TextColumn("{task.completed}/{task.total} photos"),
            BarColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._bar = self._progress.add_task("", total=total, completed=done, rate="starting")

    def __enter__(self) -> Display:
        """Show the bar."""
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar away."""
        self._progress.stop()

    @property
    def pace(self) -> Pace:
        """The rate so far."""
        return self._pace

    def advance(self, photos: int) -> None:
        """Count photos that are done."""
        self._done += photos
        self._pace.add(photos)
        rate = self._pace.per_s
        text = f"{rate:.1f} photos/s" if rate else ""
        if self._console.is_terminal:
            self._progress.update(self._bar, completed=self._done, rate=text)
        elif time.monotonic() - self._shown_at >= LINE_EVERY_S and rate:
            self._shown_at = time.monotonic()
            left_s = round((self._total - self._done) / rate)
            line = f"{self._done}/{self._total} photos  {text}  {left_s // 60}:{left_s % 60:02d} min left"
            self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class Pace:
    """Photos per second from the first answer to the last, so that starting up does not count."""

    def __init__(self) -> None:
        """Wait for the first answer."""
        self._first_at: float | None = None
        self._last_at = 0.0
        self._after_first = 0

    def add(self, photos: int) -> None:
        """Count photos that were answered now."""
        self._last_at = time.monotonic()
        if self._first_at is None:
            self._first_at = self._last_at
        else:
            self._after_first += photos

    @property
    def per_s(self) -> float | None:
        """The rate; None before the second answer."""
        if self._first_at is None or self._last_at <= self._first_at:
            return None
        return self._after_first / (self._last_at - self._first_at)
