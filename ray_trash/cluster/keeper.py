"""What commands have asked of an autoscaler, for all commands on a cluster and for as long as each of them lives.

An autoscaler knows one request, which stands until the next replaces it: that of another command, or none, where the
command was killed. So a process on the head keeps the requests of all, and drops those of commands that have ended.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from typing import Any

import ray
from ray._private.state import jobs
from ray.autoscaler.sdk import request_resources
from ray.exceptions import RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ray_trash.cluster.capacity import Bundle
from ray_trash.cluster.waiting import fetch
from ray_trash.errors import ClusterError

LOOK_EVERY_S = 5.0
_NAME = "ray-trash-keeper"
_HEAD = "node:__internal_head__"
_STARTS = 3
"""One keeper may be about to end, as nobody asks for anything, when another command finds it."""


def keep(bundles: Sequence[Bundle]) -> None:
    """Have the autoscaler start machines that all of some bundles fit, and keep them while this command lives.

    It replaces what the command has asked for before.

    Raises:
        ClusterError: The head starts no process for this.
    """
    job_id = ray.get_runtime_context().get_job_id()
    for _ in range(_STARTS):
        try:
            fetch(_keeper().keep.remote(job_id, [dict(each) for each in bundles]), what="the autoscaler to be asked")
            return
        except RayActorError as error:
            gone = error
    raise ClusterError(f"the cluster's head starts no process that asks the autoscaler: {gone}") from gone


def let_go() -> None:
    """Take back what this command has asked for, without waiting: should it end first, that says the same."""
    _keeper().keep.remote(ray.get_runtime_context().get_job_id(), [])


def _keeper() -> Any:
    head = next(node["NodeID"] for node in ray.nodes() if _HEAD in node["Resources"])
    return (
        ray.remote(_Keeper)
        .options(
            name=_NAME,
            namespace=_NAME,
            lifetime="detached",
            get_if_exists=True,
            num_cpus=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(head, soft=False),
        )
        .remote()
    )


class _Keeper:
    def __init__(self) -> None:
        self._kept: dict[str, list[Bundle]] = {}
        self._lock = threading.RLock()
        threading.Thread(target=self._watch, name="keeper", daemon=True).start()

    def keep(self, job_id: str, bundles: list[Bundle]) -> None:
        with self._lock:
            self._kept[job_id] = bundles
            self._ask()

    def _ask(self) -> None:
        request_resources(bundles=[bundle for bundles in self._kept.values() for bundle in bundles])

    def _watch(self) -> None:
        while True:
            time.sleep(LOOK_EVERY_S)
            with self._lock:
                # Whoever asks from here on finds no keeper, and starts the next one.
                if not self._drop_ended():
                    os._exit(0)

    def _drop_ended(self) -> bool:
        """Forget those who let go or have ended, and say whether somebody is left."""
        with self._lock:
            ended = {job["JobID"] for job in jobs() if job["IsDead"]}
            left = {job_id: kept for job_id, kept in self._kept.items() if kept and job_id not in ended}
            if left != self._kept:
                self._kept = left
                self._ask()
            return bool(left)
