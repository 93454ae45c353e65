"""One process that answers: decodes photos off its event loop and computes them in batches of all requests together.

Ray Serve makes it, feeds it and replaces it when it dies or hangs.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import ray._private.worker
from numpy.typing import NDArray
from ray import serve

from ray_trash.cluster.carry import Carried, carry
from ray_trash.cluster.priority import behind_others, in_turn
from ray_trash.cluster.shares import usable_cpus
from ray_trash.cluster.waiting import exit_if_stuck
from ray_trash.config import ServeConfig
from ray_trash.image.heat import heat_over
from ray_trash.model.checkpoint import Checkpoint
from ray_trash.serve.contract import ForwardBatch, ModelCard, Scored
from ray_trash.serve.decoders import Decoders
from ray_trash.serve.own_address import listen_in_the_cluster_alone
from ray_trash.serve.running import somebody_answers
from ray_trash.serve.shelf import Origin

if TYPE_CHECKING:
    from ray_trash.model.explainer import Explainer
    from ray_trash.model.predictor import Predictor

BATCHES_AT_ONCE = 2
"""The second one is there when the first one's last photos leave threads without work."""
_SLICE_PHOTOS = 8
"""Photos of one request that go into a batch, and come out of it, together."""
LOADING_NICENESS = 5
"""How much a replica that loads its model lets those go first that answer meanwhile: a third of a processor that one
of theirs wants too. Source: 335 and 1,024 of `sched_prio_to_weight` in Linux."""
TURN_TIMEOUT_S = 30.0
"""How long a replica lets others of its machine load before it, half as many as there are processors at a time."""
START_TIMEOUT_S = 180.0
"""How long a replica may take to load a checkpoint and answer the first photo."""

Slice = list[NDArray[np.uint8]]
"""Some photos of one request, each (S, S, 3)."""


class Replica:
    """Answers photos by one checkpoint."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        settings: Mapping[str, Any],
        n_threads: int,
        *,
        niceness: int = 0,
        kept: Path | None = None,
    ) -> None:
        """Load a checkpoint to compute in so many CPU threads; `settings` is the `serve` section.

        While it loads it lets others go first by so much, and afterwards no more. In the folder `kept` replicas of one
        machine keep converted networks for one another.
        An error of it is kept for `card`, since Ray would only try again and again.
        """
        self._settings = ServeConfig.model_validate(settings)
        self._decoders = Decoders()
        self._computers = ThreadPoolExecutor(BATCHES_AT_ONCE, thread_name_prefix="compute")
        self._broken = ""
        self._explainer: Explainer | None = None
        batching: Any = self._predict
        batching.set_max_batch_size(self._settings.forward_batch_photos)
        batching.set_batch_wait_timeout_s(self._settings.batch_wait_s)
        checked = carry(lambda: behind_others(lambda: self._check(checkpoint, n_threads, kept), niceness=niceness))
        self._loaded = carry(lambda: checked.value()())
        # The maps of all requests take turns: they need the memory of one, and leave threads to answers.
        self._drawing = ThreadPoolExecutor(1, thread_name_prefix="explain")

    def _check(self, checkpoint: Checkpoint, n_threads: int, kept: Path | None) -> Callable[[], Predictor]:
        # The endpoint's own process knows this class too, and computes nothing: torch takes it seconds to load.
        from ray_trash.model.explainer import Explainer
        from ray_trash.model.kept_networks import KeptNetworks
        from ray_trash.model.predictor import Predictor

        given = self._settings.model_dump(include={"engine", "device", "precision", "views"})
        networks = None if kept is None else KeptNetworks(kept)
        start = Predictor.check(checkpoint, **given, n_threads=n_threads, kept=networks)
        if self._settings.explain:
            self._explainer = Explainer(checkpoint, views=self._settings.views)
        return start

    async def check_health(self) -> None:
        """Raise an error, so that Ray Serve replaces this replica, where its newest batch could not be computed."""
        if self._broken:
            raise RuntimeError(self._broken)

    async def card(self) -> Carried[ModelCard]:
        """Return who answers, or why nobody does."""
        return carry(lambda: card_of(self._loaded.value()))

    async def answer(self, photos: Sequence[bytes], *, explain: bool = False) -> Scored:
        """Answer encoded photos, and draw what the answers looked at; only where `serve.explain` is on."""
        if self._loaded.error is not None:
            # One that was made later than those that were looked at, on a machine that cannot load the model.
            self._broken = f"there is no model here: {self._loaded.error}"
            raise RuntimeError(self._broken)
        predictor, started_s = self._loaded.value(), time.perf_counter()
        prepared = await self._decoders.prepare(predictor, photos)
        refused = {n: photo for n, photo in enumerate(prepared) if isinstance(photo, tuple)}
        decode_s = time.perf_counter() - started_s
        squares = [photo for photo in prepared if not isinstance(photo, tuple)]
        step = min(_SLICE_PHOTOS, self._settings.forward_batch_photos)
        slices = [squares[start : start + step] for start in range(0, len(squares), step)]
        answers = await asyncio.gather(*map(self._predict, slices))
        probabilities = np.zeros((len(photos), len(predictor.document.classes)), np.float32)
        good = [n for n in range(len(photos)) if n not in refused]
        if answers:
            probabilities[good] = np.concatenate([rows for rows, _, _ in answers])
        batches = {number: batch for _, number, batch in answers}
        abstained = predictor.document.calibration.abstains(probabilities)
        abstained[list(refused)] = False
        scored = Scored(card_of(predictor), probabilities, abstained, refused, tuple(batches.values()), decode_s)
        if not explain:
            return scored
        explaining_s = time.perf_counter()
        labels = probabilities[good].argmax(axis=1).tolist()
        # The gateway has given the request up by then.
        async with asyncio.timeout(self._settings.timeout_s):
            maps = {n: await self._draw(square, label) for n, square, label in zip(good, squares, labels, strict=True)}
        return replace(scored, maps=maps, explain_s=time.perf_counter() - explaining_s)

    async def _draw(self, square: NDArray[np.uint8], label: int) -> bytes:
        explainer = self._explainer
        assert explainer is not None, "the gateway lets no such request in where serve.explain is off"
        return await asyncio.get_running_loop().run_in_executor(
            self._drawing, lambda: heat_over(square, explainer.heat(square, label))
        )

    @serve.batch(max_concurrent_batches=BATCHES_AT_ONCE, batch_size_fn=lambda slices: sum(map(len, slices)))
    async def _predict(self, slices: list[Slice]) -> list[tuple[NDArray[np.float32], int, ForwardBatch]]:
        # To each slice (B, C), and a number for the batch it was in, and that batch.
        started_s = time.perf_counter()
        squares = [square for each in slices for square in each]
        rows = await self.compute(self._loaded.value(), np.stack(squares))
        ends = np.cumsum([len(each) for each in slices])
        batch = ForwardBatch(len(squares), time.perf_counter() - started_s)
        return [(mine, id(slices), batch) for mine in np.split(rows, ends[:-1])]

    async def compute(self, predictor: Predictor, squares: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute one batch off the event loop, and remember for `check_health` whether that worked."""
        try:
            answer = await asyncio.get_running_loop().run_in_executor(self._computers, predictor.predict, squares)
        except Exception as error:
            self._broken = f"{type(error).__name__}: {error}"
            raise
        self._broken = ""
        return answer


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
        views=predictor.views,
        calibrated_views=document.views,
        target_error=calibration.target_error,
        answer_shares=dict(zip(document.classes, calibration.answer_shares, strict=False)),
        metrics=document.metrics,
    )


class SharedReplica(Replica):
    """A replica that loads what was checked, whatever has become of the checkpoint's files by then."""

    def __init__(self, origin: Origin, settings: Mapping[str, Any], n_threads: int, niceness: int) -> None:
        """Fetch the checkpoint and load it; from then on its threads let others go first by so much."""
        listen_in_the_cluster_alone()
        os.nice(niceness)
        # The first replicas are waited for by who starts them; one that replaces another, by nobody.
        with exit_if_stuck(START_TIMEOUT_S):
            checkpoint: Checkpoint = origin.fetch(timeout_s=START_TIMEOUT_S)
            answering = somebody_answers()
            loading = max(0, LOADING_NICENESS - niceness) if answering else 0
            session = _session_folder()
            with _turn_to_load(session) if answering else nullcontext():
                super().__init__(checkpoint, settings, n_threads, niceness=loading, kept=session / "networks")
        # The shelf ends with the process that started it, as a gateway of a Serve config may.
        self._left = None if origin.wish is None else (checkpoint, origin.wish)

    async def left(self) -> tuple[Checkpoint, Mapping[str, Any]] | None:
        """Return the checkpoint and the wish it came by, for a gateway that takes the place of one that ended."""
        return self._left


def _turn_to_load(session: Path) -> AbstractContextManager[None]:
    return in_turn(session / "loading", at_once=max(1, usable_cpus() // 2), timeout_s=TURN_TIMEOUT_S)


def _session_folder() -> Path:
    # Ray has no public name for the folder that goes with it.
    node = ray._private.worker._global_node
    assert node is not None, "a replica is a process of Ray"
    return Path(node.get_session_dir_path())
