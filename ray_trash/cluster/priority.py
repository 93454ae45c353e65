"""Work that takes only what others leave, in a process that will not always do so, and not many such at once."""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, TypeVar

Result = TypeVar("Result")
LOOK_EVERY_S = 0.1


def behind_others(work: Callable[[], Result], *, niceness: int) -> Result:
    """Do work in a thread that lets others go first by so much, and wait for it; what it raises is raised here.

    Threads that it starts let them go first as well. On Linux niceness is a thread's own, and ends with it, where a
    process without privileges can never take its own back; elsewhere it is the process's, so there nobody goes first.
    """

    def nicely() -> Result:
        if sys.platform == "linux":
            os.nice(niceness)
        return work()

    with ThreadPoolExecutor(1, thread_name_prefix="behind-others") as thread:
        return thread.submit(nicely).result()


@contextmanager
def in_turn(folder: Path, *, at_once: int, timeout_s: float) -> Iterator[None]:
    """Wait until fewer than `at_once` processes of this machine are in such a block, or for `timeout_s`, and go ahead.

    They find one another by a folder; where there can be none, nobody waits. The kernel ends the turn of a process that
    dies.
    """
    with ExitStack() as opened:
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            places = [opened.enter_context((folder / str(number)).open("a")) for number in range(at_once)]
            deadline_s = time.monotonic() + timeout_s
            while not any(map(_taken, places)) and time.monotonic() < deadline_s:
                time.sleep(LOOK_EVERY_S)
        yield


def _taken(place: IO[str]) -> bool:
    try:
        fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
