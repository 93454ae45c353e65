"""The checkpoints of a fleet, for the replicas that are yet to start. Quick to import: it is a process of its own.

What a deployment is made of may hold no reference to Ray's memory: Ray would keep that memory as long as it runs,
through every exchange.
"""

from __future__ import annotations

import pickle
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ray_trash.cluster.waiting import ANSWER_TIMEOUT_S, fetch, fetch_all

PIECE_BYTES = 4 << 20
"""What Ray's memory is asked for at a time. In one piece a checkpoint does not fit where the one before it was, once
somebody's photo lies there, and memory that Ray has taken it keeps. Measured with Ray alone, 94 MiB put 25 times, each
time the one before let go, beside photos of 150 kB: it takes 213 MiB so, and 304 in one piece."""
NAMESPACE = "ray-trash"


@ray.remote(num_cpus=0)
class _Shelf:
    def __init__(self) -> None:
        self._kept: dict[str, list[ray.ObjectRef[Any]]] = {}

    def keep(self, name: str, pieces: list[ray.ObjectRef[Any]]) -> None:
        self._kept[name] = pieces

    def get(self, name: str) -> list[ray.ObjectRef[Any]]:
        return self._kept[name]

    def has(self, name: str) -> bool:
        return name in self._kept

    def forget(self, name: str) -> None:
        self._kept.pop(name, None)


class Shelf:
    """The end of it that the fleet has; it and what it keeps go with the fleet's process."""

    def __init__(self, fleet: str) -> None:
        """Start it on the machine of this process; needs a connection to Ray."""
        # Of another fleet of this name, whose machine is silent, the shelf may still count as living.
        self._name = f"{fleet}-shelf-{secrets.token_hex(4)}"
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        options = {"name": self._name, "namespace": NAMESPACE, "scheduling_strategy": here}
        self._actor: Any = _Shelf.options(**options).remote()  # type: ignore[attr-defined]

    def keep(self, name: str, value: Any, wish: Mapping[str, Any] | None) -> Origin:
        """Keep something by a name that is used once, and say where a replica finds it."""
        pickled = pickle.dumps(value)
        pieces = [ray.put(pickled[start : start + PIECE_BYTES]) for start in range(0, len(pickled), PIECE_BYTES)]
        fetch(self._actor.keep.remote(name, pieces), what="the shelf of the checkpoints")
        return Origin(self._name, name, wish)

    def has(self, name: str) -> bool:
        """Say whether replicas that are yet to start find what is kept by a name: its process may have been killed."""
        try:
            return bool(ray.get(self._actor.has.remote(name), timeout=ANSWER_TIMEOUT_S))
        except RayActorError:
            return False

    def forget(self, name: str) -> None:
        """Let go of what is kept by a name; Ray's memory has it until the last replica that reads it ends."""
        self._actor.forget.remote(name)


@dataclass(frozen=True)
class Origin:
    """Where a replica's model comes from, and what the user's Serve config said when it was started.

    `wish` is None for `ray-trash serve`.
    """

    shelf: str
    name: str
    wish: Mapping[str, Any] | None = None

    def fetch(self, *, timeout_s: float) -> Any:
        """Return what is kept there; a `ValueError` where the shelf has gone."""
        shelf: Any = ray.get_actor(self.shelf, namespace=NAMESPACE)
        what = "the checkpoint"
        pieces = fetch(shelf.get.remote(self.name), what=what, timeout_s=timeout_s)
        return pickle.loads(b"".join(fetch_all(pieces, what=what, timeout_s=timeout_s)))
