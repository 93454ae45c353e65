"""What a person reads while a command works: sentences as they are, and what rich draws."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, cast

from rich.console import Console, RenderableType

from ray_trash.terminal.streams import Stderr

SILENCE_S = 3.0
"""How long a command may say nothing: longer than the bars of `terminal.bar` do."""


@dataclass(frozen=True)
class Terminal:
    """Where sentences and tables go, for commands to stderr; live displays take rich's own `console`."""

    console: Console

    @classmethod
    def stderr(cls) -> Terminal:
        """Write to this process's stderr."""
        return cls(Console(file=cast(IO[str], Stderr())))

    @classmethod
    def silent(cls) -> Terminal:
        """Write nothing."""
        return cls(Console(quiet=True))

    @property
    def is_live(self) -> bool:
        """Whether what was written can be overwritten, as a bar is."""
        return self.console.is_terminal and not self.console.is_dumb_terminal

    def say(self, text: str) -> None:
        """Print one line as it is: brackets in a folder's name are no markup, and a path is never broken."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def show(self, drawn: RenderableType) -> None:
        """Print a table or a group, its lines unbroken."""
        self.console.print(drawn, highlight=False, soft_wrap=True)


@contextmanager
def breaking_silence(terminal: Terminal, text: str) -> Iterator[None]:
    """Say something unless the block has said something by itself after `SILENCE_S`."""

    def say() -> None:
        if not Stderr.has_written:
            terminal.say(text)

    timer = threading.Timer(SILENCE_S, say)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
