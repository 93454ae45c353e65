"""The replicas of one model after another on Ray Serve, and the way from one model to the next.

A new checkpoint gets replicas of its own, which load it, check it and answer a photo. Only then do requests go to
them; the old ones answer what they have and end. A checkpoint that is not good never meets a request.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayActorError, RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException
from ray.serve.handle import DeploymentHandle

from ray_trash.cluster.capacity import plan_replicas
from ray_trash.cluster.shares import REPLICA_CPUS
from ray_trash.cluster.waiting import exit_if_stuck, fetch, in_daemon_thread
from ray_trash.config import ServeConfig
from ray_trash.errors import CheckpointError, ClusterError
from ray_trash.model.checkpoint import Checkpoint
from ray_trash.serve.contract import ModelCard, Scored, ServeError, not_ready
from ray_trash.serve.replica import Replica

START_TIMEOUT_S = 180.0
"""How long replicas may take to load a checkpoint and answer the first photo."""
DRAIN_TIMEOUT_S = 60.0
"""How long replicas of the model before may take to answer what they have."""
DELETE_TIMEOUT_S = 4.0
"""How long Ray Serve may take to note that replicas are to end; they end by themselves then, or with Ray."""
HEALTH_PERIOD_S, HEALTH_TIMEOUT_S = 1.0, 4.0
"""Ray replaces a replica that fails three checks in a row, each a question every second with so long to answer."""
ATTEMPTS = 2
"""Scoring changes nothing, so what a failing replica did not answer is asked of another, once."""

_logger = logging.getLogger(__name__)


@dataclass
class _Generation:
    """One checkpoint and its replicas."""

    name: str
    checkpoint: Checkpoint
    handle: DeploymentHandle[Any]
    card: ModelCard
    waiting: set[object] = field(default_factory=set)


class Fleet:
    """A `Backend` on Ray Serve; needs a connected Ray."""

    def __init__(self, settings: ServeConfig) -> None:
        """Start with nobody to answer."""
        self._settings = settings
        self._now: _Generation | None = None
        self._before: Checkpoint | None = None
        self._swap: dict[str, Any] = {}
        # Other endpoints may be on the same cluster.
        self._name = f"ray-trash-{secrets.token_hex(4)}"
        self._made = 0
        self._deployed: set[str] = set()
        self._swapping = asyncio.Lock()
        self._drains: set[asyncio.Task[None]] = set()

    async def start(self, checkpoint: Checkpoint) -> ModelCard:
        """Start the first model.

        Raises:
            CheckpointError: It does not answer as it should.
            ClusterError: The replicas do not start in time.
        """
        async with self._swapping:
            self._now = await self._deploy(checkpoint)
            return self._now.card

    async def swap(self, checkpoint: Checkpoint) -> ModelCard:
        """Move to another checkpoint; requests see either the old model or the new one.

        Raises:
            CheckpointError: It is not good; the model that answers goes on.
            ClusterError: There is no room for its replicas; the model that answers goes on.
        """
        async with self._swapping:
            return await self._swap_to(checkpoint)

    async def _swap_to(self, checkpoint: Checkpoint) -> ModelCard:
        now = self._now
        assert now is not None, "there is a model before there is another"
        if checkpoint.document.classes != now.card.classes:
            raise CheckpointError(
                f"its classes are {', '.join(checkpoint.document.classes)}; served are "
                f"{', '.join(now.card.classes)}, which clients rely on: start another endpoint for it"
            )
        self._now = await self._deploy(checkpoint)
        self._before = now.checkpoint
        self._note("done", self._now.card.id, f"from {now.card.id}")
        drain = asyncio.ensure_future(self._drain(now))
        self._drains.add(drain)
        drain.add_done_callback(self._drains.discard)
        return self._now.card

    async def roll_back(self) -> ModelCard:
        """Go back to the checkpoint before this one.

        Raises:
            ServeError: There is none, or it cannot be started.
        """
        try:
            # What is before is known once a move that is under way is over.
            async with self._swapping:
                if self._before is None:
                    raise ServeError(409, "no_model_before", "there is no model before this one to go back to")
                return await self._swap_to(self._before)
        except (CheckpointError, ClusterError) as error:
            raise ServeError(503, "not_rolled_back", "the model before this one could not be started") from error

    def refuse(self, what: str, reason: str) -> None:
        """Note a checkpoint that is not served, for `swap_state`."""
        self._note("refused", what, reason)

    async def swap_state(self) -> Mapping[str, Any]:
        """Say what became of the newest attempt to change the model."""
        return self._swap

    async def card(self) -> ModelCard | None:
        """Return the model that answers."""
        return None if self._now is None else self._now.card

    async def score(self, photos: Sequence[bytes], *, timeout_s: float) -> Scored:
        """Answer encoded photos.

        Raises:
            ServeError: There is no model yet, all replicas are busy, or there is no answer in time.
        """
        now = self._now
        if now is None:
            raise not_ready(self._settings.retry_after_s)
        ticket = object()
        now.waiting.add(ticket)
        try:
            return await ask(now.handle, photos, self._settings, timeout_s=timeout_s)
        finally:
            now.waiting.discard(ticket)

    async def stop(self) -> None:
        """End every replica, and nothing else that Ray Serve may run on this cluster."""
        for drain in self._drains:
            drain.cancel()
        for name in list(self._deployed):
            await self._delete(name)

    def _note(self, status: str, what: str, detail: str) -> None:
        at = datetime.now(UTC).isoformat(timespec="seconds")
        self._swap = {"status": status, "checkpoint": what, "detail": detail, "at": at}

    async def _deploy(self, checkpoint: Checkpoint) -> _Generation:
        self._made += 1
        name = f"{self._name}-{self._made}"
        self._deployed.add(name)
        # In Ray's memory, so that a replica that is replaced later loads what was checked, whatever has become of the
        # files by then.
        try:
            shared = ray.put(checkpoint)
            application = deployment(self._settings).bind(
                _Shared(shared), self._settings.model_dump(), threads(self._settings)
            )
            handle = await asyncio.wait_for(
                in_daemon_thread(lambda: serve.run(application, name=name, route_prefix=None), name="serve.run"),
                START_TIMEOUT_S,
            )
            problem = await asyncio.wait_for(handle.problem.remote(), START_TIMEOUT_S)
            if problem:
                raise CheckpointError(problem)
            card = await asyncio.wait_for(handle.card.remote(), START_TIMEOUT_S)
        except TimeoutError as error:
            await self._delete(name)
            raise ClusterError(
                f"{checkpoint.uri}: its replicas did not start within {START_TIMEOUT_S:g} s: {self._settings.replicas} "
                f"with {REPLICA_CPUS} CPUs each; is the cluster full?"
            ) from error
        except CheckpointError:
            await self._delete(name)
            raise
        except (RayServeException, RayError, RuntimeError) as error:
            await self._delete(name)
            raise ClusterError(f"{checkpoint.uri}: its replicas do not start: {str(error).splitlines()[-1]}") from error
        return _Generation(name, checkpoint, handle, card)

    async def _drain(self, generation: _Generation) -> None:
        deadline_s = time.monotonic() + DRAIN_TIMEOUT_S
        while generation.waiting and time.monotonic() < deadline_s:
            await asyncio.sleep(0.1)
        await self._delete(generation.name)

    async def _delete(self, name: str) -> None:
        self._deployed.discard(name)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(
                in_daemon_thread(lambda: _end_application(name), name="serve.delete"), DELETE_TIMEOUT_S
            )


def _end_application(name: str) -> None:
    serve.delete(name, _blocking=False)
    # That sends a call and does not wait; this comes back once the controller has had it.
    serve.status()


async def ask(
    handle: DeploymentHandle[Any], photos: Sequence[bytes], settings: ServeConfig, *, timeout_s: float
) -> Scored:
    """Have replicas answer encoded photos; what a failing one leaves unanswered, another is asked.

    Raises:
        ServeError: All replicas are busy, or there is no answer in time.
    """
    deadline_s = time.monotonic() + timeout_s
    for attempt in range(1, ATTEMPTS + 1):
        try:
            async with asyncio.timeout(deadline_s - time.monotonic()):
                answer: Scored = await handle.score.remote(list(photos))
                return answer
        except TimeoutError as error:
            raise ServeError(504, "timeout", f"there was no answer within {timeout_s:g} s") from error
        except BackPressureError as error:
            raise ServeError(
                503, "busy", "all replicas are busy; come again", retry_after_s=settings.retry_after_s
            ) from error
        except (RayActorError, RayTaskError, DeploymentUnavailableError) as error:
            what = str(error).strip().splitlines()[-1]
            _logger.warning("a replica failed under a request (attempt %d of %d): %s", attempt, ATTEMPTS, what)
            if attempt == ATTEMPTS:
                raise ServeError(
                    503, "replica_failed", "the replica failed; come again", retry_after_s=settings.retry_after_s
                ) from error
    raise AssertionError("the last attempt answers or raises")


class _Shared:
    """A checkpoint in Ray's memory, on its way to a replica."""

    def __init__(self, reference: ray.ObjectRef[Checkpoint]) -> None:
        self.reference = reference


class SharedReplica(Replica):
    """A replica whose checkpoint comes by Ray's memory."""

    def __init__(self, shared: _Shared, settings: Mapping[str, Any], n_threads: int) -> None:
        """Fetch the checkpoint and load it."""
        # The first replicas are waited for by who starts them; one that replaces another, by nobody.
        with exit_if_stuck(START_TIMEOUT_S):
            checkpoint = fetch(shared.reference, what="the checkpoint", timeout_s=START_TIMEOUT_S)
            super().__init__(checkpoint, settings, n_threads)


def deployment(settings: ServeConfig, replica: Callable[..., Any] = SharedReplica) -> serve.Deployment:
    """Describe the replicas to Ray Serve."""
    gpus = plan_replicas(settings, ray.cluster_resources()).gpus
    options: dict[str, Any] = {
        "name": "Model",
        "ray_actor_options": {"num_cpus": REPLICA_CPUS, "num_gpus": gpus},
        # The gateway lets in no more than these, so they wait here, not there.
        "max_ongoing_requests": settings.max_waiting_requests,
        "health_check_period_s": HEALTH_PERIOD_S,
        "health_check_timeout_s": HEALTH_TIMEOUT_S,
        "graceful_shutdown_wait_loop_s": 0.5,
        "graceful_shutdown_timeout_s": 10,
    }
    if settings.max_replicas is None:
        options["num_replicas"] = settings.replicas
    else:
        options["autoscaling_config"] = {
            "min_replicas": settings.replicas,
            "max_replicas": settings.max_replicas,
            "target_ongoing_requests": settings.target_requests_per_replica,
        }
    return serve.deployment(**options)(replica)


def threads(settings: ServeConfig) -> int:
    """Decide how many CPU threads compute in a replica, from what the cluster has, as `plan_replicas` does."""
    return plan_replicas(settings, ray.cluster_resources()).n_threads
