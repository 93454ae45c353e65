"""Work that takes only what others leave, in a process that will not always do so."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")


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
