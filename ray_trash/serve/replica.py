"""One process that answers: decodes photos off its event loop and computes them in batches of all requests together.

Ray Serve makes it, feeds it and replaces it when it dies or hangs.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ray import serve

from ray_trash.config import ServeConfig
from ray_trash.errors import ImageError, RayTrashError
from ray_trash.model.checkpoint import Checkpoint, open_checkpoint
from ray_trash.model.predictor import Predictor
from ray_trash.serve.contract import ModelCard, Scored

MIN_DECODING_THREADS = 4
"""A photo that is slow to decode keeps one of them for seconds; the others go on."""
MAX_DECODING_THREADS = 8
"""The largest photo that is taken costs half a gibibyte while it is decoded."""
BATCHES_AT_ONCE = 2
"""The second one is there when the first one's last photos leave threads without work."""
_PART_PHOTOS = 8
"""Photos of one request that go into a batch, and come out of it, together."""


@dataclass(frozen=True)
class _Part:
    """Photos of one request, each (S, S, 3) uint8, and who is to answer them."""

    predictor: Predictor
    squares: list[NDArray[np.uint8]]


@dataclass(frozen=True)
class _Answer:
    """What became of a part: (B, C) float32, and which batch it was in and how many photos that had."""

    probabilities: NDArray[np.float32]
    batch: int
    batch_size: int


def _count_photos(parts: Sequence[_Part]) -> int:
    return sum(len(part.squares) for part in parts)


class Replica:
    """Answers photos by one checkpoint, or by the next one once that has proved itself."""

    def __init__(self, checkpoint: Checkpoint | None, settings: Mapping[str, Any], n_threads: int) -> None:
        """Load a checkpoint; what is wrong with it is kept for `problem`, since Ray would only try again and again.

        Args:
            checkpoint: An open one; None waits for `reconfigure` to name one.
            settings: The `serve` section.
            n_threads: CPU threads that compute.
        """
        self._settings = ServeConfig.model_validate(settings)
        self._n_threads = n_threads
        processors = os.cpu_count() or 1
        # Of one request as many as can run at once: more get in each other's way, and leave others no thread.
        self._decoding_at_once = min(MAX_DECODING_THREADS, processors)
        self._decoders = ThreadPoolExecutor(
            max(MIN_DECODING_THREADS, self._decoding_at_once), thread_name_prefix="decode"
        )
        self._computers = ThreadPoolExecutor(BATCHES_AT_ONCE, thread_name_prefix="compute")
        self._predictor: Predictor | None = None
        self._problem = ""
        self._broken = ""
        batching: Any = self._predict
        batching.set_max_batch_size(self._settings.forward_batch_photos)
        batching.set_batch_wait_timeout_s(self._settings.batch_wait_s)
        if checkpoint is not None:
            self._take(checkpoint)

    async def reconfigure(self, user_config: Mapping[str, Any]) -> None:
        """Move to the checkpoint that a Serve config names; one that is not good changes nothing but `problem`.

        Raises:
            RayTrashError: It is not good, and there is none before it.
        """
        await asyncio.get_running_loop().run_in_executor(None, self._take, user_config["checkpoint"])
        if self._predictor is None:
            raise RayTrashError(self._problem)

    def _take(self, checkpoint: Checkpoint | str) -> None:
        settings = self._settings
        try:
            predictor = Predictor.load(
                checkpoint if isinstance(checkpoint, Checkpoint) else open_checkpoint(checkpoint),
                engine=settings.engine,
                device=settings.device,
                precision=settings.precision,
                n_threads=self._n_threads,
            )
            before = self._predictor
            if before is not None and before.document.classes != predictor.document.classes:
                raise RayTrashError("the new checkpoint has other classes; clients rely on those that are served")
        except RayTrashError as error:
            self._problem = str(error)
            return
        self._predictor, self._problem = predictor, ""

    async def check_health(self) -> None:
        """Have Ray Serve replace this replica where its newest batch could not be computed.

        Raises:
            RuntimeError: It could not.
        """
        if self._broken:
            raise RuntimeError(self._broken)

    async def card(self) -> ModelCard | None:
        """Return who answers; None where the checkpoint is not good."""
        return None if self._predictor is None else card_of(self._predictor)

    async def problem(self) -> str:
        """Say what is wrong with the newest checkpoint; nothing is an empty string."""
        return self._problem

    async def score(self, photos: Sequence[bytes]) -> Scored:
        """Answer encoded photos, all of them by the same model."""
        predictor = self._predictor
        if predictor is None:
            # One that was made later than those that were looked at, on a machine that cannot load the model.
            self._broken = f"there is no model here: {self._problem}"
            raise RuntimeError(self._broken)
        prepared = await self._prepare(predictor, photos)
        refused = {n: photo for n, photo in enumerate(prepared) if isinstance(photo, tuple)}
        squares = [photo for photo in prepared if not isinstance(photo, tuple)]
        step = min(_PART_PHOTOS, self._settings.forward_batch_photos)
        parts = [_Part(predictor, squares[start : start + step]) for start in range(0, len(squares), step)]
        answers = await asyncio.gather(*map(self._predict, parts))
        probabilities = np.zeros((len(photos), len(predictor.document.classes)), np.float32)
        if answers:
            good = [n for n in range(len(photos)) if n not in refused]
            probabilities[good] = np.concatenate([answer.probabilities for answer in answers])
        batch_sizes = {answer.batch: answer.batch_size for answer in answers}
        abstained = predictor.document.calibration.abstains(probabilities)
        abstained[list(refused)] = False
        return Scored(card_of(predictor), probabilities, abstained, refused, tuple(batch_sizes.values()))

    async def _prepare(
        self, predictor: Predictor, photos: Sequence[bytes]
    ) -> list[NDArray[np.uint8] | tuple[str, str]]:
        # Each thread takes the next photo when it is done with one: an errand for every photo costs more than to
        # decode a small one.
        prepared: list[Any] = [None] * len(photos)
        waiting = deque(enumerate(photos))

        def work() -> None:
            while True:
                try:
                    n, encoded = waiting.popleft()
                except IndexError:
                    return
                prepared[n] = _prepare_or_refuse(predictor, encoded)

        loop = asyncio.get_running_loop()
        threads = min(len(photos), self._decoding_at_once)
        try:
            await asyncio.gather(*(loop.run_in_executor(self._decoders, work) for _ in range(threads)))
        finally:
            # What nobody waits for any more is not decoded.
            waiting.clear()
        return prepared

    @serve.batch(max_concurrent_batches=BATCHES_AT_ONCE, batch_size_fn=_count_photos)
    async def _predict(self, parts: list[_Part]) -> list[_Answer]:
        # During a swap a batch may hold photos for the old and the new model.
        answers: list[Any] = [None] * len(parts)
        batch_size = _count_photos(parts)
        for predictor in dict.fromkeys(part.predictor for part in parts):
            numbers = [n for n, part in enumerate(parts) if part.predictor is predictor]
            rows = await self.compute(predictor, np.stack([square for n in numbers for square in parts[n].squares]))
            for n in numbers:
                mine, rows = np.split(rows, [len(parts[n].squares)])
                answers[n] = _Answer(mine, id(parts), batch_size)
        return answers

    async def compute(self, predictor: Predictor, squares: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute one batch off the event loop, and remember for `check_health` whether that worked."""
        try:
            answer = await asyncio.get_running_loop().run_in_executor(self._computers, predictor.predict, squares)
        except Exception as error:
            self._broken = f"{type(error).__name__}: {error}"
            raise
        self._broken = ""
        return answer


def _prepare_or_refuse(predictor: Predictor, encoded: bytes) -> NDArray[np.uint8] | tuple[str, str]:
    try:
        return predictor.prepare(encoded)
    except ImageError as error:
        return error.code, str(error)


def card_of(predictor: Predictor) -> ModelCard:
    """Say what there is to know about a model."""
    document = predictor.document
    calibration = document.calibration
    return ModelCard(
        id=document.id,
        classes=document.classes,
        engine=predictor.plan.name,
        preprocessing=document.preprocessing.to_json(),
        thresholds=dict(zip(document.classes, calibration.thresholds, strict=True)),
        temperature=calibration.temperature,
        target_error=calibration.target_error,
        metrics=document.metrics,
    )
