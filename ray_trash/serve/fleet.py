"""Replicas that answer by one checkpoint, and how they are exchanged for replicas of another one.

A new checkpoint gets replicas of its own, which load it, check it and answer a photo. Only then do requests go to
them; the old ones answer what they have and end. A checkpoint that is not good never meets a request.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import secrets
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from ray_trash.cluster.capacity import count_machines, machine_cpus, plan_replicas
from ray_trash.cluster.ending import cluster_is_ours
from ray_trash.cluster.growing import can_grow
from ray_trash.cluster.shares import REPLICA_CPUS
from ray_trash.cluster.waiting import in_daemon_thread
from ray_trash.config import ServeConfig
from ray_trash.errors import CheckpointError, ClusterError, RayTrashError
from ray_trash.model.checkpoint import Checkpoint
from ray_trash.serve.asking import ask_replicas
from ray_trash.serve.contract import ModelCard, Scored, ServeError, not_ready
from ray_trash.serve.log import tell
from ray_trash.serve.replica import START_TIMEOUT_S, SharedReplica
from ray_trash.serve.shelf import Origin, Shelf
from ray_trash.terminal.text import last_line

DRAIN_TIMEOUT_S = 60.0
"""How long replicas of the model before may take to answer what they have."""
DELETE_TIMEOUT_S = 4.0
"""How long Ray Serve may take to note that replicas are to end; they end by themselves then, or with Ray."""
SCALING = {"upscale_delay_s": 10.0, "downscale_delay_s": 120.0, "look_back_period_s": 10.0}
"""How long there must be more requests than replicas are for, or fewer. A replica is there ten seconds after it was
asked for; one that has gone is missed when the next burst comes."""
HEALTH_PERIOD_S, HEALTH_TIMEOUT_S = 1.0, 4.0
"""Ray replaces a replica that fails three checks in a row, each a question every second with so long to answer."""


@dataclass
class Generation:
    """One checkpoint and its replicas, an application of Ray Serve; `waiting` counts requests that are in work."""

    name: str
    checkpoint: Checkpoint
    handle: DeploymentHandle[Any]
    card: ModelCard
    waiting: int = 0


class Fleet:
    """A `Backend` on Ray Serve; needs a connected Ray."""

    def __init__(self, settings: ServeConfig, *, name: str | None = None, drain_s: float = 0.0) -> None:
        """Start with nobody to answer.

        Args:
            settings: The `serve` section.
            name: Begins the names of its applications, of which a cluster may have others. Default: one of its own.
            drain_s: How long others, who ask the replicas themselves, may take to notice an exchange.
        """
        self.wish: Mapping[str, Any] | None = None
        """What the user's Serve config says, kept with what is started for `adopt`; None for `ray-trash serve`."""
        self._settings, self._drain_s = settings, drain_s
        self._now: Generation | None = None
        self._before: Checkpoint | None = None
        self._swap: dict[str, Any] = {}
        self._exchanges: Counter[str] = Counter()
        self._name = name or f"ray-trash-{secrets.token_hex(4)}"
        self._deployed: set[str] = set()
        self._shelf: Shelf | None = None
        self._exchanging = asyncio.Lock()
        self._drains: set[asyncio.Task[None]] = set()

    async def swap(self, checkpoint: Checkpoint) -> ModelCard:
        """Start the first model, or move to another; requests see either the old one or the new one.

        Raises:
            CheckpointError: It is not good; a model that answers goes on.
            ClusterError: Its replicas do not start in time, or find no room; a model that answers goes on.
        """
        async with self._exchanging:
            try:
                return await self._swap_to(checkpoint)
            except RayTrashError as error:
                if isinstance(error, ClusterError) and self._now is None:
                    self._wait(checkpoint, error)
                else:
                    self.refuse(checkpoint.document.id, error, checkpoint.uri)
                raise

    async def roll_back(self) -> ModelCard:
        """Go back to the checkpoint before this one."""
        # What is before is known once a move that is under way is over.
        async with self._exchanging:
            if self._before is None:
                raise ServeError(409, "no_model_before", "there is no model before this one to go back to")
            tell("rollback", f"going back to {self._before.document.id}", model=self._before.document.id)
            try:
                card = await self._swap_to(self._before)
            except RayTrashError as error:
                tell("not_rolled_back", f"not gone back: {error}", level=logging.WARNING, reason=str(error))
                raise ServeError(503, "not_rolled_back", "the model before this one could not be started") from error
            self._exchanges["rolled_back"] += 1
            return card

    def refuse(self, what: str, error: RayTrashError, uri: str) -> None:
        """Note a checkpoint that is not served, for `swap_state`; clients are not told where anything is."""
        self._exchanges["refused"] += 1
        tell("refused", f"not served: {error}", level=logging.WARNING, checkpoint=uri, reason=str(error))
        self._note("refused", what, str(error).replace(uri, "the checkpoint"))

    async def swap_state(self) -> Mapping[str, Any]:
        """Say what became of the newest attempt to change the model."""
        return self._swap

    def exchanges(self) -> Mapping[str, int]:
        """Count attempts to change the model by what became of them."""
        return self._exchanges

    async def card(self) -> ModelCard | None:
        """Return the model that answers."""
        return None if self._now is None else self._now.card

    def application(self) -> str | None:
        """Return the name of the application of Ray Serve whose replicas answer."""
        return None if self._now is None else self._now.name

    async def description(self) -> str | None:
        """Return the card of the checkpoint that answers, as it was when that was opened."""
        return None if self._now is None else self._now.checkpoint.card

    async def score(self, photos: Sequence[bytes], *, timeout_s: float) -> Scored:
        """Answer encoded photos; what a failing replica leaves unanswered, another is asked."""
        now = self._now
        if now is None:
            raise not_ready(self._settings.retry_after_s)
        now.waiting += 1
        try:

            async def handle_for(_: int) -> DeploymentHandle[Any]:
                return now.handle

            retry_after_s = self._settings.retry_after_s
            return await ask_replicas(handle_for, photos, timeout_s=timeout_s, retry_after_s=retry_after_s)
        finally:
            now.waiting -= 1

    async def adopt(self) -> Checkpoint | None:
        """Go on with the replicas of a fleet of this name whose process has ended; None where there are none.

        Their checkpoint went from Ray's memory with that process: until what is returned is swapped to once more, a
        replica that dies stays away.
        """
        names = await in_daemon_thread(lambda: _applications(self._name), name="serve.status")
        self._deployed.update(names)
        for name in names:
            try:
                async with asyncio.timeout(START_TIMEOUT_S):
                    handle: DeploymentHandle[Any] = serve.get_app_handle(name)
                    card: ModelCard = (await handle.card.remote()).value()
                    checkpoint: Checkpoint
                    checkpoint, self.wish = await handle.left.remote()
            except (TimeoutError, RayServeException, RayError, RayTrashError) as error:
                what = f"{name} has no model to go on with: {last_line(error)}"
                tell("not_adopted", what, level=logging.WARNING)
                await self._delete(name)
            else:
                self._now = Generation(name, checkpoint, handle, card)
                for other in self._deployed - {name}:
                    await self._delete(other)
                return checkpoint
        return None

    async def stop(self) -> None:
        """End every replica, and nothing else that Ray Serve may run on this cluster."""
        for drain in self._drains:
            drain.cancel()
        for name in list(self._deployed):
            await self._delete(name)

    def _wait(self, checkpoint: Checkpoint, error: ClusterError) -> None:
        detail = str(error).replace(checkpoint.uri, "the checkpoint")
        if self._swap.get("detail") != detail:
            tell("waiting", f"not served yet: {error}", level=logging.WARNING, checkpoint=checkpoint.uri)
        self._note("waiting", checkpoint.document.id, detail)

    def _note(self, status: str, what: str, detail: str) -> None:
        at = datetime.now(UTC).isoformat(timespec="seconds")
        self._swap = {"status": status, "checkpoint": what, "detail": detail, "at": at}

    async def _swap_to(self, checkpoint: Checkpoint) -> ModelCard:
        old, document = self._now, checkpoint.document
        if old is not None and document.classes != old.card.classes:
            raise CheckpointError(
                f"its classes are {', '.join(document.classes)}; served are {', '.join(old.card.classes)}, which "
                "clients rely on: start another endpoint for it"
            )
        self._now = await self._deploy(checkpoint)
        if old is not None:
            if old.card.id != document.id:
                self._before = old.checkpoint
                self._exchanges["done"] += 1
                self._note("done", document.id, f"from {old.card.id}")
                what = f"now answered by {document.id}, no longer by {old.card.id}"
                tell("exchanged", what, model=document.id, before=old.card.id, checkpoint=checkpoint.uri)
            drain = asyncio.ensure_future(self._drain(old))
            self._drains.add(drain)
            drain.add_done_callback(self._drains.discard)
        return self._now.card

    async def _deploy(self, checkpoint: Checkpoint) -> Generation:
        name = f"{self._name}-{secrets.token_hex(4)}"
        self._deployed.add(name)
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                handle = await in_daemon_thread(functools.partial(self._run, name, checkpoint), name="serve.run")
                card = (await handle.card.remote()).value()
        except (TimeoutError, RayServeException, RayError, RuntimeError, RayTrashError) as error:
            await self._delete(name)
            if isinstance(error, RayTrashError):
                raise
            what = f"do not start: {last_line(error)}"
            if isinstance(error, TimeoutError):
                asked = f"{self._settings.replicas} with {REPLICA_CPUS} CPUs each; is the cluster full?"
                what = f"did not start within {START_TIMEOUT_S:g} s: {asked}"
            raise ClusterError(f"{checkpoint.uri}: its replicas {what}") from error
        return Generation(name, checkpoint, handle, card)

    def _run(self, name: str, checkpoint: Checkpoint) -> DeploymentHandle[Any]:
        self._shelf = self._shelf or Shelf(self._name)
        origin = self._shelf.keep(name, checkpoint, self.wish)
        return serve.run(_describe_replicas(self._settings, origin), name=name, route_prefix=None)

    async def _drain(self, generation: Generation) -> None:
        deadline_s = time.monotonic() + DRAIN_TIMEOUT_S
        await asyncio.sleep(self._drain_s)
        while generation.waiting and time.monotonic() < deadline_s:
            await asyncio.sleep(0.1)
        await self._delete(generation.name)

    async def _delete(self, name: str) -> None:
        self._deployed.discard(name)
        if self._shelf is not None:
            self._shelf.forget(name)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DELETE_TIMEOUT_S):
                await in_daemon_thread(lambda: _end_application(name), name="serve.delete")


def _applications(fleet: str) -> list[str]:
    # The newest first.
    found = {name: about for name, about in serve.status().applications.items() if name.startswith(f"{fleet}-")}
    return sorted(found, key=lambda name: found[name].last_deployed_time_s, reverse=True)


def _describe_replicas(settings: ServeConfig, origin: Origin) -> serve.Application:
    grows = not cluster_is_ours() and bool(can_grow())
    plan = plan_replicas(settings, ray.cluster_resources(), grows=grows)
    options: dict[str, Any] = {"num_replicas": settings.replicas}
    if settings.max_replicas is not None:
        scaling: dict[str, Any] = {"min_replicas": settings.replicas, "max_replicas": settings.max_replicas}
        scaling["target_ongoing_requests"] = settings.target_requests_per_replica
        options = {"autoscaling_config": scaling | SCALING}
    if grows and not plan.gpus:
        # What a replica reserves is less than it needs, so an autoscaler would add no machine for it.
        options["max_replicas_per_node"] = max(1, int(max(machine_cpus(), default=1)))
    elif settings.max_replicas is None and (machines := count_machines()) > 1:
        # While one machine is away, another has room for more than its share, and they would stay together there.
        options["max_replicas_per_node"] = -(-settings.replicas // machines)
    replicas = serve.deployment(
        name="Model",
        ray_actor_options={"num_cpus": REPLICA_CPUS, "num_gpus": plan.gpus},
        # The gateway lets in no more than these, so they wait here, not there.
        max_ongoing_requests=settings.max_waiting_requests,
        health_check_period_s=HEALTH_PERIOD_S,
        health_check_timeout_s=HEALTH_TIMEOUT_S,
        graceful_shutdown_wait_loop_s=0.5,
        graceful_shutdown_timeout_s=settings.timeout_s,
        **options,
    )(SharedReplica)
    return replicas.bind(origin, settings.model_dump(), plan.n_threads)


def _end_application(name: str) -> None:
    serve.delete(name, _blocking=False)
    serve.status()  # comes back once the controller has had that call, which does not wait
