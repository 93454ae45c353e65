"""The standard streams of a command's process: always open, and stderr for people only."""

from __future__ import annotations

import faulthandler
import os
import sys
import warnings
from typing import TextIO


def open_closed_streams() -> None:
    """Let streams that were closed lead nowhere; the next file to be opened would otherwise take their place."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            setattr(sys, name, open(number, mode))  # noqa: SIM115


def keep_stderr_for_people() -> None:
    """Let only Python write to stderr, and no warnings for programmers.

    Ray's core writes lines there that are in its log files as well, such as of every process that was lost and
    replaced. A crash is still shown, with what Python was doing.
    """
    for_people = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)
    encoding, errors = sys.stderr.encoding, sys.stderr.errors
    sys.stderr = open(for_people, "w", buffering=1, encoding=encoding, errors=errors)  # noqa: SIM115
    faulthandler.enable(sys.stderr)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


class Stderr:
    """This process's stderr; that whoever read it has gone, as with a terminal that was closed, ends no work."""

    has_written = False
    """Whether anything was written, by whichever of them."""

    def write(self, text: str) -> int:
        """Write some text, if there is somebody to read it."""
        Stderr.has_written = True
        try:
            _stderr().write(text)
        except (OSError, ValueError):
            _give_up_stderr()
        return len(text)

    def flush(self) -> None:
        """Send on what was written."""
        try:
            _stderr().flush()
        except (OSError, ValueError):
            _give_up_stderr()

    def isatty(self) -> bool:
        """Say whether it is a terminal."""
        return _stderr().isatty()

    def fileno(self) -> int:
        """Return its number."""
        return _stderr().fileno()

    @property
    def encoding(self) -> str:
        """What text becomes on its way."""
        return _stderr().encoding


def _stderr() -> TextIO:
    # While rich draws a bar it stands in front of it, and would be told what it writes itself.
    real: TextIO = getattr(sys.stderr, "rich_proxied_file", sys.stderr)
    return real


def _give_up_stderr() -> None:
    # What is left in its buffer would be tried again, and Python would end with an exit code for that.
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115
