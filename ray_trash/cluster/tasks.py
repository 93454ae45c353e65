"""Many tasks, a few at a time: each is started when another one ends, so that none waits with what it will read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import ray

from ray_trash.cluster.waiting import TASK_TIMEOUT_S, wait_for_next

Start = Callable[[], Any]
"""Starts a task, and returns its reference, or those of all that it returns."""


def cluster_cpus() -> int:
    """Return how many tasks that compute keep every processor of the cluster busy, at least 1."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


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
            running[returned[0] if isinstance(returned, list) else returned] = (number, returned)
        if not running:
            return
        others = set(wait_for_next(list(running), what=what, timeout_s=TASK_TIMEOUT_S))
        for ended in [reference for reference in running if reference not in others]:
            yield running.pop(ended)
