"""Replicas that answer by one checkpoint, and how they are exchanged for replicas of another one.

A new checkpoint gets replicas of its own, which load it, check it and answer a photo. Only then do requests go to
them; the old ones answer what they have and end. A checkpoint that is not good never meets a request.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import math
import secrets
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import ApplicationStatusOverview

from ray_trash.cluster.shares import REPLICA_CPUS
from ray_trash.cluster.waiting import in_daemon_thread
from ray_trash.config import ServeConfig
from ray_trash.errors import CheckpointError, ClusterError, RayTrashError
from ray_trash.model.checkpoint import Checkpoint
from ray_trash.model.document import CheckpointDocument
from ray_trash.serve.asking import ask_replicas
from ray_trash.serve.contract import ModelCard, Scored, ServeError, not_ready
from ray_trash.serve.log import tell
from ray_trash.serve.replica import START_TIMEOUT_S
from ray_trash.serve.replicas import describe_replicas, most_per_machine
from ray_trash.serve.shelf import Shelf
from ray_trash.terminal.text import last_line

DRAIN_TIMEOUT_S = 60.0
"""How long replicas of the model before may take to answer what they have."""
DELETE_TIMEOUT_S = 4.0
"""How long Ray Serve may take to note that replicas are to end; they end by themselves then, or with Ray."""
ADOPT_TIMEOUT_S = 30.0
"""How long replicas that are there may take to say by what they answer."""
RENEW_S = 3.0
"""How often a fleet looks whether its replicas are to be renewed."""


@dataclass
class Generation:
    """One checkpoint and its replicas, an application of Ray Serve.

    Attributes:
        most_per_machine: Replicas that a machine may have; infinite where they are another fleet's.
        waiting: Requests that are in work.
    """

    name: str
    checkpoint: Checkpoint
    handle: DeploymentHandle[Any]
    card: ModelCard
    most_per_machine: float = math.inf
    waiting: int = 0


class Fleet:
    """A `Backend` on Ray Serve; needs a connected Ray."""

    def __init__(self, settings: ServeConfig, *, name: str, drain_s: float = 0.0, niceness: int = 0) -> None:
        """Start with nobody to answer.

        Args:
            settings: The `serve` section.
            name: Begins the names of its applications, of which a cluster may have others.
            drain_s: How long others, who ask the replicas themselves, may take to notice an exchange.
            niceness: Of its replicas' processes, from 0 to 19: how much they let others go first.
        """
        self.wish: Mapping[str, Any] | None = None
        """What the user's Serve config says, kept with what is started for `adopt`; None for `ray-trash serve`."""
        self._settings, self._drain_s, self._niceness = settings, drain_s, niceness
        self._now: Generation | None = None
        self._before: Checkpoint | None = None
        self._swap: dict[str, Any] = {}
        self._exchanges: Counter[str] = Counter()
        self._name = name
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
        self.note("refused", what, str(error).replace(uri, "the checkpoint"))

    def note(self, status: str, what: str, detail: str) -> None:
        """Say, for `swap_state`, what became of a checkpoint, named by its id or its place's last part."""
        at = datetime.now(UTC).isoformat(timespec="seconds")
        self._swap = {"status": status, "checkpoint": what, "detail": detail, "at": at}

    def settle(self) -> None:
        """Note that what answers is what was asked for: what was refused or waited for before is over."""
        if self._swap.get("status") in ("refused", "waiting"):
            self._swap = {}

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

    def checkpoint(self) -> Checkpoint | None:
        """Return the checkpoint that answers."""
        return None if self._now is None else self._now.checkpoint

    async def description(self) -> str | None:
        """Return the card of the checkpoint that answers, as it was when that was opened."""
        return None if self._now is None else self._now.checkpoint.card

    async def score(self, photos: Sequence[bytes], *, timeout_s: float, explain: bool = False) -> Scored:
        """Answer encoded photos; what a failing replica leaves unanswered, another is asked."""
        now = self._now
        if now is None:
            raise not_ready(self._settings.retry_after_s)
        now.waiting += 1
        try:

            async def handle_for(_: int) -> DeploymentHandle[Any]:
                return now.handle

            retry_after_s = self._settings.retry_after_s
            return await ask_replicas(
                handle_for, photos, explain=explain, timeout_s=timeout_s, retry_after_s=retry_after_s
            )
        finally:
            now.waiting -= 1

    async def look_after(self) -> None:
        """Renew replicas again and again where that is needed; never returns."""
        while True:
            await asyncio.sleep(RENEW_S)
            try:
                await self._renew()
            except (RayTrashError, RayError) as error:
                why = last_line(error)
                tell("not_renewed", f"replicas are not renewed yet: {why}", level=logging.WARNING, reason=why)

    async def _renew(self) -> None:
        """Start the replicas of this model anew where one that dies would stay away, or they could be spread more."""
        async with self._exchanging:
            now = self._now
            if now is None:
                return
            most = await in_daemon_thread(lambda: most_per_machine(self._settings), name="machines")
            if most < now.most_per_machine or not await self._is_kept(now):
                tell("renewing", f"starting the replicas of {now.card.id} anew", model=now.card.id)
                await self._swap_to(now.checkpoint)

    async def _is_kept(self, now: Generation) -> bool:
        shelf = self._shelf
        kept = shelf is not None and await in_daemon_thread(lambda: shelf.has(now.name), name="shelf")
        if not kept:
            self._shelf = None  # another one is started with the replicas
        return kept

    async def adopt(self) -> Checkpoint | None:
        """Go on with the replicas of a fleet of this name whose process has ended; None where there are none.

        Their checkpoint went from Ray's memory with that process: until they are renewed, one that dies stays away.
        """
        found = await in_daemon_thread(lambda: _applications(self._name), name="serve.status")
        self._deployed.update(found)
        for name, about in found.items():
            try:
                if not any("RUNNING" in model.replica_states for model in about.deployments.values()):
                    raise ClusterError("none of its replicas is left")
                async with asyncio.timeout(ADOPT_TIMEOUT_S):
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

    async def end_left(self) -> None:
        """End the replicas of a fleet of this name whose process has ended."""
        for name in await in_daemon_thread(lambda: _applications(self._name), name="serve.status"):
            await self._delete(name)

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
        self.note("waiting", checkpoint.document.id, detail)

    async def _swap_to(self, checkpoint: Checkpoint) -> ModelCard:
        old, document = self._now, checkpoint.document
        self.require_classes(document)
        self._now = await self._deploy(checkpoint)
        if old is None:
            self.settle()
            return self._now.card
        if old.card.id != document.id:
            self._before = old.checkpoint
            self._exchanges["done"] += 1
            self.note("done", document.id, f"from {old.card.id}")
            what = f"now answered by {document.id}, no longer by {old.card.id}"
            tell("exchanged", what, model=document.id, before=old.card.id, checkpoint=checkpoint.uri)
        self._end(old)
        return self._now.card

    def require_classes(self, document: CheckpointDocument) -> None:
        """Refuse, as a `CheckpointError`, other classes than those that are served, unless the settings allow them."""
        served = document.classes if self._now is None else self._now.card.classes
        if document.classes != served and not self._settings.allow_new_classes:
            raise CheckpointError(
                f"its classes are {', '.join(document.classes)}; served are {', '.join(served)}, which clients rely "
                "on: start another endpoint for it, or set serve.allow_new_classes"
            )

    def clear(self) -> None:
        """Let nobody answer any more; what is being answered is, first."""
        if self._now is not None:
            self._end(self._now)
        self._now = None

    def _end(self, generation: Generation) -> None:
        drain = asyncio.ensure_future(self._drain(generation))
        self._drains.add(drain)
        drain.add_done_callback(self._drains.discard)

    async def _deploy(self, checkpoint: Checkpoint) -> Generation:
        name = f"{self._name}-{secrets.token_hex(4)}"
        self._deployed.add(name)
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                run = functools.partial(self._run, name, checkpoint)
                handle, most = await in_daemon_thread(run, name="serve.run")
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
        return Generation(name, checkpoint, handle, card, most)

    def _run(self, name: str, checkpoint: Checkpoint) -> tuple[DeploymentHandle[Any], int]:
        self._shelf = self._shelf or Shelf(self._name)
        origin, most = self._shelf.keep(name, checkpoint, self.wish), most_per_machine(self._settings)
        replicas = describe_replicas(self._settings, origin, self._niceness, most)
        return serve.run(replicas, name=name, route_prefix=None), most

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


def _applications(fleet: str) -> dict[str, ApplicationStatusOverview]:
    # The newest first.
    found = {name: about for name, about in serve.status().applications.items() if name.startswith(f"{fleet}-")}
    return dict(sorted(found.items(), key=lambda item: item[1].last_deployed_time_s, reverse=True))


def _end_application(name: str) -> None:
    serve.delete(name, _blocking=False)
    serve.status()  # comes back once the controller has had that call, which does not wait
