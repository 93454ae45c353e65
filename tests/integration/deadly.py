"""Kills inside the process of the test: a change to the disk that does not happen, and none after it.

What a killed run leaves behind is what is on the disk, and starting a process for every kill costs ten times what the
run does.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

CHANGES = {
    *("os.mkdir", "os.rmdir", "os.remove", "os.rename", "os.link", "os.symlink", "os.chmod", "os.truncate"),
    *("shutil.rmtree", "shutil.copyfile"),
}


class KilledError(BaseException):
    """Not an `Exception`, so that nothing handles it, as nothing handles SIGKILL."""


@dataclass
class Changes:
    """What a folder has seen of Python.

    Attributes:
        folder: The folder.
        n: How many changes to what is below it.
        deadly: The number of the change that does not happen, nor any after it.
    """

    folder: str = ""
    n: int = 0
    deadly: int | None = None


_WATCHED = Changes()


@contextmanager
def watching_changes(folder: Path, *, deadly: int | None = None) -> Iterator[Changes]:
    """Count the changes below a folder inside the block; from the deadly one on, each raises `KilledError`."""
    _install()
    _WATCHED.folder, _WATCHED.n, _WATCHED.deadly = f"{folder}{os.sep}", 0, deadly
    try:
        yield _WATCHED
    finally:
        _WATCHED.folder = ""


@cache
def _install() -> None:
    # For as long as the process lives: Python takes no such hook back.
    sys.addaudithook(_count)


def _count(event: str, arguments: tuple[Any, ...]) -> None:
    if _WATCHED.folder and _is_change(event, arguments) and _is_below(arguments):
        _WATCHED.n += 1
        if _WATCHED.deadly is not None and _WATCHED.n >= _WATCHED.deadly:
            raise KilledError(f"{event} {arguments}")


def _is_change(event: str, arguments: tuple[Any, ...]) -> bool:
    if event != "open":
        return event in CHANGES
    _, mode, flags = arguments
    return bool(set(mode or "r") & set("wax+") or (flags or 0) & (os.O_WRONLY | os.O_RDWR))


def _is_below(arguments: tuple[Any, ...]) -> bool:
    paths = [os.fsdecode(part) for part in arguments[:2] if isinstance(part, str | bytes | os.PathLike)]
    return any(path.startswith(_WATCHED.folder) for path in paths)
