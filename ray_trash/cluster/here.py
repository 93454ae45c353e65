"""Work of tasks that this process does itself, where so little is to be done that Ray's start would take longer.

`task`, `run_tasks` and `fetch` are the same to whoever calls them: without a connection to Ray, what is started is done
at once, and `Done` stands where a reference would.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from ray_trash.terminal.say import Terminal

MOST_PHOTOS = 128
"""Photos that are worth no start of Ray, read and sketched, or answered at 224 pixels: as many take one processor about
as long as Ray and its first process, which loads the same libraries anew."""
_OF_PX = 224

Value = TypeVar("Value")


@dataclass(frozen=True, eq=False)
class Done(Generic[Value]):
    """What a task returned that ran in this process."""

    value: Value


def is_connected() -> bool:
    """Say whether this process is connected to Ray."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def reserved_cpus() -> float:
    """Return the CPUs that Ray has reserved for this process, which is connected to it; for a driver, none."""
    import ray

    if ray._private.worker.global_worker.mode != ray.WORKER_MODE:
        return 0.0
    return float(ray.get_runtime_context().get_assigned_resources().get("CPU", 0.0))


def is_little(n_photos: float, *, workers: int | None = None) -> bool:
    """Say whether so many photos are better done here: where nobody asked for workers, or for a cluster."""
    return workers is None and n_photos <= MOST_PHOTOS and os.environ.get("RAY_ADDRESS", "") in ("", "local")


def photos_of_224_px(n_photos: int, *, size_px: int, views: int) -> float:
    """Say how many photos of 224 pixels take as long to answer as so many of another size, in so many views each."""
    return float(n_photos * views * (size_px / _OF_PX) ** 2)


@contextmanager
def session_if(needed: bool, *, dashboard: bool = False, terminal: Terminal) -> Iterator[None]:
    """Be connected to Ray inside the block, as in `ray_session`, if that is needed."""
    if not needed:
        yield
        return
    from ray_trash.cluster.connect import ray_session

    with ray_session(dashboard=dashboard, terminal=terminal):
        yield
