"""A backend without a model: what the gateway makes of requests is tested with it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ray_trash.serve.contract import ForwardBatch, ModelCard, Scored, ServeError, ShadowState

CLASSES = ("glass", "paper", "metal")
CARD = ModelCard(
    id="0123456789ab",
    classes=CLASSES,
    engine="none",
    preprocessing={"size_px": 32},
    thresholds=dict.fromkeys(CLASSES, 0.5),
    temperature=1.0,
    target_error=0.05,
    answer_shares={"glass": 0.5, "paper": 0.3, "metal": 0.1},
    metrics={"val_macro_f1": 0.9},
)
GOOD, UNSURE, BAD = b"good", b"unsure", b"bad"
MAP = b"a map"


class FakeBackend:
    """Knows three photos; is slow, busy or not ready when it is told to be."""

    def __init__(self) -> None:
        self.ready = True
        self.problem: ServeError | None = None
        self.delay_s = 0.0
        self.asked: list[list[bytes]] = []
        self.explained: list[bool] = []
        self.cancelled = 0
        self.rolled_back = 0
        self.on_trial: ModelCard | None = None
        self.shadow_asked: list[list[bytes]] = []
        self.shadow_problem: Exception | None = None
        self.shadow_delay_s = 0.0

    async def score(self, photos: Sequence[bytes], *, timeout_s: float, explain: bool = False) -> Scored:
        self.asked.append(list(photos))
        self.explained.append(explain)
        if self.problem is not None:
            raise self.problem
        try:
            await asyncio.sleep(self.delay_s)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        rows = {GOOD: (0.9, 0.1, 0.0), UNSURE: (0.3, 0.3, 0.4)}
        probabilities = np.array([rows.get(photo, (0.0, 0.0, 0.0)) for photo in photos], np.float32).reshape(-1, 3)
        refused = {n: ("truncated", "it ends early") for n, photo in enumerate(photos) if photo not in rows}
        abstained = np.array([photo == UNSURE for photo in photos], bool)
        maps = {n: MAP for n in range(len(photos)) if explain and n not in refused}
        batches = (ForwardBatch(len(photos), 0.01),)
        return Scored(CARD, probabilities, abstained, refused, batches, 0.001, maps, 0.02 if explain else 0.0)

    async def card(self) -> ModelCard | None:
        return CARD if self.ready else None

    async def description(self) -> str | None:
        return "# a model | Müll" if self.ready else None

    async def swap_state(self) -> Mapping[str, Any]:
        return {}

    def exchanges(self) -> Mapping[str, int]:
        return {"done": 3, "refused": 1}

    async def roll_back(self) -> ModelCard:
        self.rolled_back += 1
        return CARD

    async def shadow(self) -> ShadowState:
        return ShadowState(self.on_trial, {"status": "on_trial"} if self.on_trial else {})

    async def score_shadow(self, photos: Sequence[bytes], *, timeout_s: float) -> Scored:
        """Call everything metal, and be sure of nothing."""
        assert self.on_trial is not None
        self.shadow_asked.append(list(photos))
        await asyncio.sleep(self.shadow_delay_s)
        if self.shadow_problem is not None:
            raise self.shadow_problem
        probabilities = np.tile(np.array([0.2, 0.2, 0.6], np.float32), (len(photos), 1))
        batch = ForwardBatch(len(photos), 0.5 * len(photos))
        return Scored(self.on_trial, probabilities, np.ones(len(photos), bool), {}, (batch,), 0.001)

    async def promote(self) -> ModelCard:
        if self.on_trial is None:
            raise ServeError(409, "no_shadow", "there is no model on trial")
        return self.on_trial
