"""Many tasks, a few at a time: each is started when another one ends, so that none waits with what it will read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ray_trash.cluster.here import Done, is_connected
from ray_trash.cluster.shares import READ_TASK_CPUS
from ray_trash.cluster.waiting import TASK_TIMEOUT_S, wait_for_next

MAX_RETRIES = 30
"""How often a task is done again: whenever its process or machine goes, and whenever a machine takes away what it made,
also long after it has ended. Of Ray's own three the fourth machine that a run loses would leave none."""

Start = Callable[[], Any]
"""Starts a task, and returns its reference, or those of all that it returns."""


def cluster_cpus() -> int:
    """Return how many tasks that compute keep every processor of the cluster busy, at least 1; 1 without Ray."""
    if not is_connected():
        return 1
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def task(function: Callable[..., Any], *, n_returned: int = 1) -> Callable[..., Any]:
    """Return what starts a function as a task of Ray, or does it at once without a connection to Ray.

    That takes references among the arguments, and returns a reference, or a list of `n_returned`.
    """
    if is_connected():
        import ray

        remote: Any = ray.remote(num_cpus=READ_TASK_CPUS, num_returns=n_returned, max_retries=MAX_RETRIES)(function)
        start: Callable[..., Any] = remote.remote
        return start

    def here(*arguments: Any) -> Any:
        made = function(*(given.value if isinstance(given, Done) else given for given in arguments))
        return Done(made) if n_returned == 1 else [Done(one) for one in made]

    return here


def put(value: Any) -> Any:
    """Put a value where tasks find it, and return its reference."""
    if not is_connected():
        return Done(value)
    import ray

    return ray.put(value)


def run_tasks(starts: Iterable[Start], *, at_once: int, what: str) -> Iterator[tuple[int, Any]]:
    """Run tasks, and yield the number of each, from 0, and what its start returned, as they end.

    Raises:
        ClusterError: None ends in time; `what` was waited for.
    """
    running: dict[Any, tuple[int, Any]] = {}
    waiting = enumerate(starts)
    while True:
        while len(running) < at_once and (following := next(waiting, None)) is not None:
            number, start = following
            returned = start()
            first = returned[0] if isinstance(returned, list) else returned
            if isinstance(first, Done):
                yield number, returned
            else:
                running[first] = (number, returned)
        if not running:
            return
        others = set(wait_for_next(list(running), what=what, timeout_s=TASK_TIMEOUT_S))
        for ended in [reference for reference in running if reference not in others]:
            yield running.pop(ended)
