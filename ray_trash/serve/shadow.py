"""A fleet with a second model beside it, on trial: it scores photos that were answered, and answers nobody."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Sequence

import ray

from ray_trash.cluster.capacity import plan_replicas
from ray_trash.cluster.waiting import in_daemon_thread
from ray_trash.config import ServeConfig
from ray_trash.errors import RayTrashError
from ray_trash.model.checkpoint import Checkpoint, open_checkpoint
from ray_trash.serve.contract import ModelCard, Scored, ServeError, ShadowState
from ray_trash.serve.fleet import Fleet
from ray_trash.serve.log import tell

NICENESS = 10
"""A thread of the model on trial has a tenth of a processor that one of the model that answers wants too: enough to
load it on a busy machine. Source: 110 and 1,024 of `sched_prio_to_weight` in Linux."""


class ShadowedFleet(Fleet):
    """The model that answers, and one on trial in a fleet of its own, which `promote` lets answer."""

    def __init__(self, settings: ServeConfig, *, name: str | None = None, drain_s: float = 0.0) -> None:
        """Start with neither; `name` begins those of all applications. Default: one of its own."""
        name = name or f"ray-trash-{secrets.token_hex(4)}"
        super().__init__(settings, name=f"{name}-model", drain_s=drain_s)
        self._shadow = Fleet(_on_trial(settings), name=f"{name}-shadow", drain_s=drain_s, niceness=NICENESS)
        self._trying = asyncio.Lock()

    async def try_out(self, place: str | None) -> None:
        """Put the checkpoint at a place on trial, None for none, and end the trial of the one before.

        One that is not good, or that there is no room for, is refused, which `shadow` and the log tell.
        """
        async with self._trying:
            self._end_trial("ended", "it is no longer named to be tried")
            if place is not None:
                await self._try(place)

    async def _try(self, place: str) -> None:
        uri = uri_of(place)
        what = uri.rsplit("/", 1)[-1]
        try:
            checkpoint = await in_daemon_thread(lambda: self._open(place), name="open")
            card, what = await self.card(), checkpoint.document.id
            if card is not None and card.id == what:
                self._shadow.note("ended", what, "it is the model that answers")
                return
            self.require_classes(checkpoint.document)
            # `swap` would tell of an exchange, and there is none.
            await self._shadow._swap_to(checkpoint)
        except RayTrashError as error:
            self._shadow.refuse(what, error, uri)
            self._exchanges["shadow_refused"] += 1
            return
        self._shadow.note("on_trial", what, f"scores {self._settings.shadow_share:.3g} of the photos, answers none")
        tell("on_trial", f"{what} is on trial, and answers nobody", model=what, checkpoint=uri)

    def _open(self, place: str) -> Checkpoint:
        plan_replicas(self._settings, ray.cluster_resources(), with_shadow=True)
        return open_checkpoint(place)

    async def promote(self) -> ModelCard:
        """Let the model on trial answer, by an exchange as any; the one before stays for a rollback."""
        async with self._trying:
            checkpoint = self._shadow.checkpoint()
            if checkpoint is None:
                raise ServeError(409, "no_shadow", "there is no model on trial")
            model_id = checkpoint.document.id
            tell("promotion", f"from trial to answering: {model_id}", model=model_id)
            try:
                card = await self.swap(checkpoint)
            except RayTrashError as error:
                what = "the model on trial could not be started to answer; `swap` in /v1/model says why"
                raise ServeError(503, "not_promoted", what) from error
            self._exchanges["promoted"] += 1
            self._end_trial("promoted", "it answers now")
            return card

    def _end_trial(self, status: str, why: str) -> None:
        on_trial = self._shadow.checkpoint()
        if on_trial is not None:
            self._shadow.clear()
            self._shadow.note(status, on_trial.document.id, why)
            tell("trial_over", f"{on_trial.document.id} is no longer on trial: {why}", model=on_trial.document.id)

    async def shadow(self) -> ShadowState:
        """Say which model is on trial."""
        return ShadowState(await self._shadow.card(), await self._shadow.swap_state())

    def shadow_application(self) -> str | None:
        """Return the name of the application of Ray Serve that is on trial."""
        return self._shadow.application()

    async def score_shadow(self, photos: Sequence[bytes], *, timeout_s: float) -> Scored:
        """Have the model on trial score encoded photos."""
        return await self._shadow.score(photos, timeout_s=timeout_s)

    async def adopt(self) -> Checkpoint | None:
        """Go on with the model that answers; a trial begins anew, once it is asked for."""
        await self._shadow.end_left()
        return await super().adopt()

    async def stop(self) -> None:
        """End every replica of both."""
        await asyncio.gather(self._shadow.stop(), super().stop())


def uri_of(place: str) -> str:
    """Name a place as a checkpoint from there does."""
    return place.rstrip("/") if "://" in place else os.path.abspath(os.path.expanduser(place))


def _on_trial(settings: ServeConfig) -> ServeConfig:
    # A GPU knows no niceness, and two models would have no room there beside a third that is exchanged for one.
    alone = {"replicas": 1, "max_replicas": None, "threads_per_replica": 1, "device": "cpu"}
    precision = "fp32" if settings.precision == "fp32" else "auto"
    return ServeConfig.model_validate({**settings.model_dump(), **alone, "precision": precision})
