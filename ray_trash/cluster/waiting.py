"""Waiting for Ray without standing in the way of a signal."""

from __future__ import annotations

import threading
from collections.abc import Callable


def wait_in_thread(work: Callable[[], object], *, name: str) -> None:
    """Do work in a thread and wait for it here, where a signal ends the wait.

    In the main thread Ray Train and Ray Tune take SIGINT for themselves, or wait in calls that no signal ends.

    Args:
        work: What is done; what it raises is raised here.
        name: Of the thread.
    """
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(timeout=0.5)
    if raised:
        raise raised[0]
