"""A run's board where its workers are other processes."""

from __future__ import annotations

from typing import Any

import ray
import ray.exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ray_trash.cluster.carry import Carried
from ray_trash.cluster.waiting import fetch
from ray_trash.train.board import Board, Event

ASK_TIMEOUT_S = 0.05
"""How long training stands still for the board to say whether the workers are to stop; two milliseconds do."""


class SharedBoard:
    """A board that workers in other processes post to: an actor, which takes no CPU of the cluster."""

    def __init__(self) -> None:
        """Start the actor."""
        # On any other machine it would go with that machine, and the run with it.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._actor: Any = ray.remote(Board).options(num_cpus=0, scheduling_strategy=here).remote()
        self._question: Any = None

    def post(self, event: Event) -> None:
        """Add an event, without waiting for its arrival."""
        self._actor.post.remote(event)

    def ask_to_stop(self) -> None:
        """Have the workers save and stop at the next step that suits them all."""
        self._actor.ask_to_stop.remote()

    def asked_to_stop(self) -> bool:
        """Say whether the workers are to save and stop; what is answered too late is heard the next time."""
        try:
            self._question = self._question or self._actor.asked_to_stop.remote()
            answered, _ = ray.wait([self._question], timeout=ASK_TIMEOUT_S)
            if not answered:
                return False
            self._question = None
            asked: bool = ray.get(answered[0])
        except ray.exceptions.RayError:
            return False  # the head has gone, and this process ends with it
        return asked

    def join(self, rank: int, node_id: str) -> None:
        """Note on which machine a worker is."""
        self._actor.join.remote(rank, node_id)

    def nodes(self) -> set[str]:
        """Return the machines that have workers."""
        nodes: set[str] = fetch(self._actor.nodes.remote(), what="the run's board")
        return nodes

    def stopped(self) -> None:
        """Note that the workers have saved and stopped, with epochs left to train."""
        fetch(self._actor.stopped.remote(), what="the run's board")

    def begin(self) -> bool:
        """Make ready for workers that begin. Returns whether those before them were stopped with epochs left."""
        stopped: bool = fetch(self._actor.begin.remote(), what="the run's board")
        return stopped

    def take(self) -> list[Event]:
        """Return the events since the last call; `ConnectionError` where the cluster is gone, or busy for seconds."""
        try:
            events: list[Event] = ray.get(self._actor.take.remote(), timeout=10)
        except ray.exceptions.RayError as error:
            raise ConnectionError("the run's board does not answer") from error
        return events

    def end(self, outcome: Carried[None]) -> None:
        """Keep the first error."""
        fetch(self._actor.end.remote(outcome), what="the run's board")

    def outcome(self) -> Carried[None]:
        """Return the error that ended the run, if one did."""
        outcome: Carried[None] = fetch(self._actor.outcome.remote(), what="the run's board")
        return outcome
