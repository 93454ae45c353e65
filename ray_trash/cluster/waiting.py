"""Waiting for Ray: with a deadline, and without standing in the way of a signal."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import faulthandler
import functools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ray_trash.cluster.ending import start_thread
from ray_trash.cluster.here import Done
from ray_trash.errors import ClusterError

if TYPE_CHECKING:
    import ray

ANSWER_TIMEOUT_S = 60.0
"""How long an actor or an object that is there already may take to come."""
TASK_TIMEOUT_S = 3600.0
"""How long it may take until the next of some tasks ends: they wait for CPUs that others have, and compute."""

Result = TypeVar("Result")


def fetch(reference: ray.ObjectRef[Result] | Done[Result], *, what: str, timeout_s: float = ANSWER_TIMEOUT_S) -> Result:
    """Return what a reference stands for, `what` in words; that it does not come in time is a `ClusterError`."""
    if isinstance(reference, Done):
        return reference.value
    import ray
    from ray.exceptions import GetTimeoutError

    try:
        return ray.get(reference, timeout=timeout_s)
    except GetTimeoutError as error:
        raise _too_late(what, timeout_s) from error


def fetch_all(
    references: Sequence[ray.ObjectRef[Result]], *, what: str, timeout_s: float = TASK_TIMEOUT_S
) -> list[Result]:
    """Return what tasks return, in their order; that none ends for `timeout_s` is a `ClusterError`."""
    import ray

    waiting: list[Any] = list(references)
    while waiting:
        waiting = wait_for_next(waiting, what=what, timeout_s=timeout_s)
    return ray.get(list(references), timeout=timeout_s)


def wait_for_next(references: list[Any], *, what: str, timeout_s: float = TASK_TIMEOUT_S) -> list[Any]:
    """Wait until one of some tasks ends, and return the others; that none ends in time is a `ClusterError`."""
    import ray

    try:
        ended, others = ray.wait(references, timeout=timeout_s)
    except SystemError as error:
        # A signal came just when Ray had its answer, and Python found both: what the signal raised is what counts.
        raise error.__cause__ or error from None
    if not ended:
        raise _too_late(what, timeout_s)
    return others


def _too_late(what: str, timeout_s: float) -> ClusterError:
    return ClusterError(
        f"waited {timeout_s:g} s for {what} in vain; is the cluster busy with other work, or has a machine gone?"
    )


@contextlib.contextmanager
def exit_if_stuck(timeout_s: float) -> Iterator[None]:
    """End this process, with the stacks of its threads on stderr, where the block takes longer than `timeout_s`.

    For work that Ray would wait for without a deadline, in a process it replaces.
    """
    faulthandler.dump_traceback_later(timeout_s, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def wait_in_thread(
    work: Callable[[], object], *, name: str, timeout_s: float = math.inf, look: Callable[[], None] = lambda: None
) -> None:
    """Do work in a thread and wait for it here, where a signal ends the wait; what it raises is raised here.

    While it waits, `look` is called again and again.

    In the main thread Ray Train and Ray Tune take SIGINT for themselves, or wait in calls that no signal ends. Work
    that takes longer than `timeout_s` is a `TimeoutError` here, and goes on there.
    """
    future, deadline_s = _start(work, name), time.monotonic() + timeout_s
    while not future.done():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"{name} took longer than {timeout_s:g} s")
        look()
        concurrent.futures.wait([future], timeout=0.5)
    try:
        future.result()
    finally:
        del future  # as in `_fulfil`


async def in_daemon_thread(work: Callable[[], Result], *, name: str) -> Result:
    """Do work in a thread that no end of this process waits for, as `asyncio.to_thread` would; what it raises too."""
    return await asyncio.wrap_future(_start(work, name))


def _start(work: Callable[[], Result], name: str) -> concurrent.futures.Future[Result]:
    future: concurrent.futures.Future[Result] = concurrent.futures.Future()
    # Whoever waits may go; the work is done all the same.
    future.set_running_or_notify_cancel()

    start_thread(functools.partial(_fulfil, future, work), name=name)
    return future


def _fulfil(future: concurrent.futures.Future[Result], work: Callable[[], Result]) -> None:
    try:
        future.set_result(work())
    except BaseException as error:
        future.set_exception(error)
    finally:
        # The error knows this frame, which would keep it, and all that its callers have.
        del future, work
