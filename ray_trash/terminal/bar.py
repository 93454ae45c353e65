"""How far some work has come: a live bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ray_trash.terminal.say import Terminal

FIRST_LINE_S = 2.0
LINE_EVERY_S = 10.0
_MIB = 1 << 20


@contextmanager
def byte_bar(terminal: Terminal, what: str) -> Iterator[Callable[[int, int], None]]:
    """Show how far a download is; to be told the bytes there and the whole, 0 for unknown."""
    with Bar(terminal, total=None, noun="MiB", doing=f"downloading {what}:") as bar:
        yield lambda done_bytes, total_bytes: bar.show(done_bytes // _MIB, total=total_bytes // _MIB or None)


class Bar:
    """Shows what is done of a whole, the rate since the first result, and the time left.

    On a terminal it is drawn, and gone when the work is done; elsewhere it is a line every `LINE_EVERY_S`, the first
    after `FIRST_LINE_S`, so that short work says nothing. What it counts may change: a next epoch, a next step.
    """

    def __init__(
        self,
        terminal: Terminal,
        *,
        total: int | None,
        done: int = 0,
        noun: str = "photos",
        doing: str = "",
        alike: bool = True,
    ) -> None:
        """Begin with what an earlier start has done; without `total` it counts only. `doing` stands in front.

        Where what is counted is not `alike` in the time that it takes, neither rate nor time left is said.
        """
        self.rate, self._alike = Rate(), alike
        self._terminal, self._noun = terminal, noun
        self._total, self._done, self._doing, self._note = total, done, doing, ""
        self._next_line_at = time.monotonic() + FIRST_LINE_S
        self._ended, self._drawing = threading.Event(), threading.Lock()
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            *([TimeRemainingColumn()] if alike else []),
            console=terminal.console,
            transient=True,
            disable=not terminal.is_live,
        )
        self._task = self._progress.add_task(
            self._counts(), total=total, completed=done, note="starting" if alike and total is not None else ""
        )

    def __enter__(self) -> Bar:
        """Show the bar."""
        self._progress.start()
        if not self._terminal.is_live:
            threading.Thread(target=self._say_now_and_then, name="bar", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take the bar away."""
        self._ended.set()
        self._progress.stop()

    def advance(self, n: int) -> None:
        """Count what is done."""
        self.show(self._done + n)

    def show(
        self,
        done: int,
        *,
        total: int | None = None,
        noun: str | None = None,
        doing: str | None = None,
        note: str | None = None,
    ) -> None:
        """Set what is done, and whatever else is given; `note` takes the place of the rate."""
        self._noun = noun or self._noun
        if doing is not None and doing != self._doing:
            self.rate, self._doing = Rate(), doing
        self._total = self._total if total is None else total
        self.rate.add(done - self._done)
        self._done = done
        self._note = self._rate() if note is None else note
        if self._terminal.is_live:
            self._progress.update(
                self._task, description=self._counts(), completed=done, total=self._total, note=self._note
            )
        else:
            self._say_if_due()

    def _say_now_and_then(self) -> None:
        # Work without a result for a while is still work.
        while not self._ended.wait(1.0):
            self._say_if_due()

    def _say_if_due(self) -> None:
        with self._drawing:
            if time.monotonic() < self._next_line_at or self._ended.is_set():
                return
            self._next_line_at = time.monotonic() + LINE_EVERY_S
            parts = [self._counts(), self._note]
            if self.rate.per_s and self._total is not None and self._alike:
                left_s = round((self._total - self._done) / self.rate.per_s)
                parts.append(f"{left_s // 60}:{left_s % 60:02d} min left")
            self._terminal.say("  ".join(filter(None, parts)))

    def _counts(self) -> str:
        if self._total is None and not self._done and self._doing:
            return self._doing
        counts = f"{self._done}" if self._total is None else f"{self._done}/{self._total}"
        return " ".join(filter(None, [self._doing, counts, self._noun]))

    def _rate(self) -> str:
        per_s = self.rate.per_s
        return f"{per_s:.1f} {self._noun}/s" if per_s and self._alike else ""


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
