"""Waiting for Ray without standing in the way of a signal."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


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


async def in_daemon_thread(work: Callable[[], Result], *, name: str) -> Result:
    """Do work in a thread that no end of this process waits for; `asyncio.to_thread` would.

    Args:
        work: What is done; what it raises is raised here.
        name: Of the thread.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Result] = loop.create_future()

    def settle(result: Result | None, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, raised = None, None
        try:
            result = work()
        except BaseException as error:
            raised = error
        # Whoever waited may have gone, and the loop with it.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, result, raised)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await done
