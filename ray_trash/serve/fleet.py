"""Replicas that answer by one checkpoint, and how they are exchanged for replicas of another one.

A new checkpoint gets replicas of its own, which load it, check it and answer a photo. Only then do requests go to
them; the old ones answer what they have and end. A checkpoint that is not good never meets a request.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from ray_trash.cluster.waiting import in_daemon_thread
from ray_trash.config import ServeConfig
from ray_trash.errors import CheckpointError, ClusterError, RayTrashError
from ray_trash.model.checkpoint import Checkpoint
from ray_trash.model.document import CheckpointDocument
from ray_trash.serve.asking import ask_replicas
from ray_trash.serve.contract import ModelCard, Scored, ServeError, not_ready
from ray_trash.serve.generations import Generation, Generations
from ray_trash.serve.log import tell
from ray_trash.serve.replicas import most_per_machine
from ray_trash.serve.strength import Strength
from ray_trash.terminal.text import last_line

RENEW_S = 3.0
"""How often a fleet looks whether all its replicas are there, and whether they are to be renewed."""
WHOLE_TIMEOUT_S, WHOLE_LOOK_S = 15.0, 0.5
"""How long a move to another model waits for replicas of this one. Measured: one is replaced in 8 to 13 s."""


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
        self._settings = settings
        self._generations = Generations(settings, name=name, drain_s=drain_s, niceness=niceness)
        self._now: Generation | None = None
        self._before: Checkpoint | None = None
        self._swap: dict[str, Any] = {}
        self._exchanges: Counter[str] = Counter()
        self._exchanging = asyncio.Lock()
        self._strength = Strength(settings.replicas)

    async def swap(self, checkpoint: Checkpoint) -> ModelCard:
        """Start the first model, or move to another; requests see either the old one or the new one.

        Raises:
            CheckpointError: It is not good; a model that answers goes on.
            ClusterError: Its replicas do not start in time, or find no room; a model that answers goes on.
        """
        async with self._exchanging:
            await self._wait_for_replicas()
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
        """Count replicas again and again, and renew them where that is needed; never returns."""
        while True:
            await asyncio.sleep(RENEW_S)
            try:
                async with self._exchanging:
                    if self._now is not None:
                        await self._count(self._now)
                await self._renew()
            except (RayTrashError, RayError, RayServeException) as error:
                why = last_line(error)
                tell("not_renewed", f"replicas are not looked after: {why}", level=logging.WARNING, reason=why)

    async def _wait_for_replicas(self) -> None:
        """Wait, for `WHOLE_TIMEOUT_S` at most, while replicas of the model that answers are being replaced.

        Those of another model, started beside them, would leave few processors to the answers.
        """
        now, deadline_s = self._now, time.monotonic() + WHOLE_TIMEOUT_S
        # Who starts replicas finds out whether Ray Serve is well.
        with contextlib.suppress(RayTrashError, RayError, RayServeException):
            while now is not None and time.monotonic() < deadline_s:
                if await self._count(now) >= self._settings.replicas:
                    break
                await asyncio.sleep(WHOLE_LOOK_S)

    async def _count(self, now: Generation) -> int:
        running = await self._generations.running(now)
        self._strength.note(now.card.id, running)
        return running

    async def _renew(self) -> None:
        """Start the replicas of this model anew where one that dies would stay away, or they could be spread more."""
        async with self._exchanging:
            now = self._now
            if now is None:
                return
            most = await in_daemon_thread(lambda: most_per_machine(self._settings), name="machines")
            if most < now.most_per_machine or not await self._generations.keeps(now):
                tell("renewing", f"starting the replicas of {now.card.id} anew", model=now.card.id)
                await self._swap_to(now.checkpoint)

    async def adopt(self) -> Checkpoint | None:
        """Go on with the replicas of a fleet of this name whose process has ended; None where there are none.

        Their checkpoint went from Ray's memory with that process: until they are renewed, one that dies stays away.
        """
        adopted = await self._generations.adopt()
        if adopted is None:
            return None
        self._now, self.wish = adopted
        return self._now.checkpoint

    async def end_left(self) -> None:
        """End the replicas of a fleet of this name whose process has ended."""
        await self._generations.end_left()

    async def stop(self) -> None:
        """End every replica, and nothing else that Ray Serve may run on this cluster."""
        await self._generations.stop()

    def _wait(self, checkpoint: Checkpoint, error: ClusterError) -> None:
        detail = str(error).replace(checkpoint.uri, "the checkpoint")
        if self._swap.get("detail") != detail:
            tell("waiting", f"not served yet: {error}", level=logging.WARNING, checkpoint=checkpoint.uri)
        self.note("waiting", checkpoint.document.id, detail)

    async def _swap_to(self, checkpoint: Checkpoint) -> ModelCard:
        old, document = self._now, checkpoint.document
        self.require_classes(document)
        self._now = await self._generations.start(checkpoint, self.wish)
        if old is None:
            self.settle()
            return self._now.card
        if old.card.id != document.id:
            self._before = old.checkpoint
            self._exchanges["done"] += 1
            self.note("done", document.id, f"from {old.card.id}")
            what = f"now answered by {document.id}, no longer by {old.card.id}"
            tell("exchanged", what, model=document.id, before=old.card.id, checkpoint=checkpoint.uri)
        self._generations.end(old)
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
            self._generations.end(self._now)
        self._now = None
