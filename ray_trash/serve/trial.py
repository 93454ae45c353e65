"""A share of the photos that were answered, scored by the model on trial too: only counted, and where nothing waits.

What it costs the model that answers: at most one batch at a time from each gateway, of photos of one request, begun
while no photo waits for an answer there, and computed on one thread, which has a tenth of a processor that others want;
and the memory of one more replica.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence

from ray_trash.config import ServeConfig
from ray_trash.serve.backlog import Backlog
from ray_trash.serve.contract import Backend, ModelCard, Scored, ServeError, ShadowBody
from ray_trash.serve.log import tell
from ray_trash.serve.telemetry import ShadowCounters
from ray_trash.terminal.text import last_line

_NO_TIME = ("busy", "not_ready", "timeout")
"""Codes of a model on trial that has other things to do, or whose trial has just ended."""


class Trial:
    """One gateway's part of a trial."""

    def __init__(
        self,
        backend: Backend,
        settings: ServeConfig,
        counters: ShadowCounters,
        backlog: Backlog,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """Choose the photos for which `draw`, from 0 up to 1, gives less than the share."""
        self._backend, self._settings, self._counters = backend, settings, counters
        self._backlog, self._draw = backlog, draw
        self._under_way: asyncio.Task[None] | None = None

    async def offer(self, photos: Sequence[bytes], scored: Scored) -> None:
        """Begin to score some photos of a request that has its answer, or drop them; waits for nothing."""
        card = (await self._backend.shadow()).card
        if card is None:
            return
        good = [place for place in range(len(photos)) if place not in scored.refused]
        taken = [place for place in good if self._draw() < self._settings.shadow_share]
        if not taken:
            return
        self._counters.meet(scored.model, card)
        if self._under_way is not None or self._backlog.waiting:
            self._counters.drop(len(taken))
            return
        self._under_way = asyncio.ensure_future(self._score([photos[place] for place in taken], taken, scored))

    async def _score(self, photos: Sequence[bytes], taken: Sequence[int], scored: Scored) -> None:
        try:
            tried = await self._backend.score_shadow(photos, timeout_s=self._settings.timeout_s)
        except ServeError as error:
            count = self._counters.drop if error.code in _NO_TIME else self._counters.fail
            count(len(photos))
        except Exception as error:
            self._counters.fail(len(photos))
            what = f"the model on trial did not score {len(photos)} photos: {last_line(error)}"
            tell("shadow_failed", what, level=logging.WARNING, error=error)
        else:
            self._counters.count(scored, taken, tried)
        finally:
            self._under_way = None

    async def body(self, model: ModelCard) -> ShadowBody | None:
        """Say how the trial beside the model that answers goes, or went; None where there never was one."""
        state = await self._backend.shadow()
        if state.card is not None:
            self._counters.meet(model, state.card)
        elif not state.swap:
            return None
        return ShadowBody(
            id=None if state.card is None else state.card.id,
            engine=None if state.card is None else state.card.engine,
            swap=dict(state.swap),
            share=self._settings.shadow_share,
            figures=self._counters.figures,
        )
