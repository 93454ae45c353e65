"""A gateway's view of a fleet that another process keeps: whose replicas answer, asked again and again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from ray_trash.cluster.carry import Carried
from ray_trash.cluster.waiting import in_daemon_thread
from ray_trash.config import ServeConfig
from ray_trash.serve.asking import ask_replicas
from ray_trash.serve.client import ROLL_BACK_TIMEOUT_S
from ray_trash.serve.contract import ModelCard, Scored, ShadowState, come_again, not_ready
from ray_trash.serve.log import tell
from ray_trash.terminal.text import last_line

LOOK_S = 0.5
"""How often the fleet is asked."""
NOTICED_S = 5.0
"""By when every gateway that is alive has noticed an exchange: looks, and some that were late."""
ANSWER_TIMEOUT_S = 5.0
"""How long the fleet may take to say who answers."""
AWAY = (TimeoutError, RayServeException, RayError)
"""How it shows that the fleet's process, or its machine, has gone."""


@dataclass(frozen=True)
class FleetState:
    """Whose replicas answer, an application of Ray Serve, and what became of attempts to change that."""

    application: str | None = None
    card: ModelCard | None = None
    swap: Mapping[str, Any] | None = None
    exchanges: Mapping[str, int] | None = None
    description: str | None = None
    shadow: ShadowState = field(default_factory=ShadowState)
    shadow_application: str | None = None


class Follower:
    """A `Backend` that asks the replicas itself, and the fleet for everything else.

    While the fleet is away, as when its machine died, the model that answered last goes on.
    """

    def __init__(
        self, models: DeploymentHandle[Any], settings: ServeConfig, *, notice: Callable[[], Mapping[str, Any]]
    ) -> None:
        """Know nothing yet: `follow` asks. `notice` says why there is no model yet; it may take a while."""
        self._models, self._settings, self._notice = models, settings, notice
        self._state = FleetState()
        self._handle: DeploymentHandle[Any] | None = None
        self._shadow: tuple[str, DeploymentHandle[Any]] | None = None

    async def follow(self) -> None:
        """Ask who answers again and again; never returns."""
        was_there = True
        while True:
            try:
                await self._look()
                was_there = True
            except AWAY as error:
                if was_there and self._handle is not None:
                    what = f"the fleet does not say who answers, the model before goes on: {last_line(error)}"
                    tell("fleet_away", what, level=logging.WARNING)
                was_there = False
                if self._handle is None:
                    with contextlib.suppress(*AWAY):
                        self._state = FleetState(swap=await in_daemon_thread(self._notice, name="notice"))
            await asyncio.sleep(LOOK_S)

    async def _look(self) -> None:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            state: FleetState = await self._models.state.remote()
        name = state.application
        if name is not None and name != self._state.application:
            self._handle = await in_daemon_thread(lambda: serve.get_app_handle(name), name="serve.handle")
            tell("answered_by", f"answered by {state.card.id if state.card else name}", application=name)
        if name is not None or self._handle is None:
            self._state = state
        await self._look_at_shadow(state.shadow_application)

    async def _look_at_shadow(self, name: str | None) -> None:
        if name is None:
            self._shadow = None
        elif self._shadow is None or self._shadow[0] != name:
            self._shadow = name, await in_daemon_thread(lambda: serve.get_app_handle(name), name="serve.handle")

    async def score(self, photos: Sequence[bytes], *, timeout_s: float, explain: bool = False) -> Scored:
        """Answer encoded photos; what a failing replica leaves unanswered, another is asked."""
        retry_after_s = self._settings.retry_after_s
        if self._handle is None:
            raise not_ready(retry_after_s, self._state.swap)
        return await ask_replicas(
            self._handle_for, photos, explain=explain, timeout_s=timeout_s, retry_after_s=retry_after_s
        )

    async def _handle_for(self, attempt: int) -> DeploymentHandle[Any]:
        if attempt > 1:
            # The replicas may have ended with their model, since the last look.
            with contextlib.suppress(*AWAY):
                await self._look()
        assert self._handle is not None
        return self._handle

    async def card(self) -> ModelCard | None:
        """Return the model that answers."""
        return self._state.card

    async def description(self) -> str | None:
        """Return the card of the model that answers."""
        return self._state.description

    async def swap_state(self) -> Mapping[str, Any]:
        """Say what became of the newest attempt to change the model."""
        return self._state.swap or {}

    def exchanges(self) -> Mapping[str, int]:
        """Count attempts to change the model by what became of them."""
        return self._state.exchanges or {}

    async def shadow(self) -> ShadowState:
        """Say which model is on trial, of those that this gateway can ask."""
        known = self._state.shadow
        return known if self._shadow is not None else ShadowState(None, known.swap)

    async def score_shadow(self, photos: Sequence[bytes], *, timeout_s: float) -> Scored:
        """Have the model on trial score encoded photos."""
        retry_after_s = self._settings.retry_after_s
        if self._shadow is None:
            raise not_ready(retry_after_s)
        _, handle = self._shadow

        async def handle_for(_: int) -> DeploymentHandle[Any]:
            return handle

        return await ask_replicas(handle_for, photos, timeout_s=timeout_s, retry_after_s=retry_after_s)

    async def roll_back(self) -> ModelCard:
        """Have the fleet go back to the model before this one."""
        return await self._exchange(self._models.roll_back)

    async def promote(self) -> ModelCard:
        """Have the fleet let the model on trial answer."""
        return await self._exchange(self._models.promote)

    async def _exchange(self, method: Any) -> ModelCard:
        try:
            async with asyncio.timeout(ROLL_BACK_TIMEOUT_S):
                answer: Carried[ModelCard] = await method.remote()
                card = answer.value()
                await self._look()
        except AWAY as error:
            raise come_again("fleet_away", "the fleet does not answer", self._settings.retry_after_s) from error
        return card
