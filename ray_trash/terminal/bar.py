"""How far some work has come: a live bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from ray_trash.terminal.say import Terminal

LINE_EVERY_S = 10.0


@contextmanager
def byte_bar(terminal: Terminal, what: str) -> Iterator[Callable[[int, int], None]]:
    """Show how far a download is, on a live terminal only; to be told the bytes there and the whole, 0 for unknown."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=terminal.console, disable=not terminal.is_live) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done_bytes, total_bytes: bar.update(task, completed=done_bytes, total=total_bytes or None)


class Bar:
    """Shows what is done of a whole, the rate since the first result, and the time left."""

    def __init__(self, terminal: Terminal, *, total: int, done: int = 0, noun: str = "photos") -> None:
        """Begin with what an earlier start has done."""
        self.rate = Rate()
        self._terminal, self._total, self._done, self._noun = terminal, total, done, noun
        self._shown_at = time.monotonic()
        self._progress = Progress(
            TextColumn(f"{{task.completed}}/{{task.total}} {noun}"),
            BarColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            console=terminal.console,
            transient=True,
            disable=not terminal.is_live,
        )
        self._task = self._progress.add_task("", total=total, completed=done, rate="starting")

    def __enter__(self) -> Bar:
        """Show the bar."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take the bar away."""
        self._progress.stop()

    def advance(self, n: int) -> None:
        """Count what is done."""
        self._done += n
        self.rate.add(n)
        per_s = self.rate.per_s
        text = f"{per_s:.1f} {self._noun}/s" if per_s else ""
        if self._terminal.is_live:
            self._progress.update(self._task, completed=self._done, rate=text)
        elif time.monotonic() - self._shown_at >= LINE_EVERY_S and per_s:
            self._shown_at = time.monotonic()
            left_s = round((self._total - self._done) / per_s)
            line = f"{self._done}/{self._total} {self._noun}  {text}  {left_s // 60}:{left_s % 60:02d} min left"
            self._terminal.say(line)


class Rate:
    """Results per second from the first to the last, so that starting up does not count."""

    def __init__(self) -> None:
        """Wait for the first result."""
        self._first_at: float | None = None
        self._last_at = 0.0
        self._after_first = 0

    def add(self, n: int) -> None:
        """Count results that are there now."""
        self._last_at = time.monotonic()
        if self._first_at is None:
            self._first_at = self._last_at
        else:
            self._after_first += n

    @property
    def per_s(self) -> float | None:
        """The rate; None before the second result."""
        if self._first_at is None or self._last_at <= self._first_at:
            return None
        return self._after_first / (self._last_at - self._first_at)
