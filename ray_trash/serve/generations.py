"""The replicas of each checkpoint that a fleet has, as applications of Ray Serve: started, found again, ended."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import math
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import ApplicationStatusOverview

from ray_trash.cluster.shares import REPLICA_CPUS
from ray_trash.cluster.waiting import in_daemon_thread
from ray_trash.config import ServeConfig
from ray_trash.errors import ClusterError, RayTrashError
from ray_trash.model.checkpoint import Checkpoint
from ray_trash.serve.contract import ModelCard
from ray_trash.serve.log import tell
from ray_trash.serve.replica import START_TIMEOUT_S
from ray_trash.serve.replicas import describe_replicas, most_per_machine
from ray_trash.serve.running import MODEL, count_running
from ray_trash.serve.shelf import Origin, Shelf
from ray_trash.terminal.text import last_line

DRAIN_TIMEOUT_S = 60.0
"""How long replicas of the model before may take to answer what they have."""
DELETE_TIMEOUT_S = 4.0
"""How long Ray Serve may take to note that replicas are to end; they end by themselves then, or with Ray."""
ADOPT_TIMEOUT_S = 30.0
"""How long replicas that are there may take to say by what they answer."""


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


class Generations:
    """Those of one fleet; needs a connected Ray."""

    def __init__(self, settings: ServeConfig, *, name: str, drain_s: float, niceness: int) -> None:
        """Start with none; the arguments are those of `Fleet`."""
        self._settings, self._name, self._drain_s, self._niceness = settings, name, drain_s, niceness
        self._deployed: set[str] = set()
        self._shelf: Shelf | None = None
        self._drains: set[asyncio.Task[None]] = set()

    async def start(self, checkpoint: Checkpoint, wish: Mapping[str, Any] | None) -> Generation:
        """Start the replicas of a checkpoint, which say by what they answer once they do.

        While others answer, one is started before the rest: processes that start take processors from those that
        answer, and the first one is enough to find out that the checkpoint is not good.

        Raises:
            CheckpointError: It is not good.
            ClusterError: They do not start in time, or find no room.
        """
        name = f"{self._name}-{secrets.token_hex(4)}"
        beside_others = bool(self._deployed) and self._settings.replicas > 1
        self._deployed.add(name)
        try:
            origin, most = await in_daemon_thread(lambda: self._keep(name, checkpoint, wish), name="shelf")
            for only_first in (True, False) if beside_others else (False,):
                async with asyncio.timeout(START_TIMEOUT_S):
                    run = functools.partial(self._run, origin, most, only_first=only_first)
                    handle = await in_daemon_thread(run, name="serve.run")
                    card = (await handle.card.remote()).value()
        except (TimeoutError, RayServeException, RayError, RuntimeError, RayTrashError) as error:
            await self.delete(name)
            if isinstance(error, RayTrashError):
                raise
            what = f"do not start: {last_line(error)}"
            if isinstance(error, TimeoutError):
                asked = f"{self._settings.replicas} with {REPLICA_CPUS} CPUs each; is the cluster full?"
                what = f"did not start within {START_TIMEOUT_S:g} s: {asked}"
            raise ClusterError(f"{checkpoint.uri}: its replicas {what}") from error
        return Generation(name, checkpoint, handle, card, most)

    def _keep(self, name: str, checkpoint: Checkpoint, wish: Mapping[str, Any] | None) -> tuple[Origin, int]:
        self._shelf = self._shelf or Shelf(self._name)
        return self._shelf.keep(name, checkpoint, wish), most_per_machine(self._settings)

    def _run(self, origin: Origin, most: int, *, only_first: bool) -> DeploymentHandle[Any]:
        replicas = describe_replicas(self._settings, origin, self._niceness, most, only_first=only_first)
        return serve.run(replicas, name=origin.name, route_prefix=None)

    async def keeps(self, generation: Generation) -> bool:
        """Say whether a replica that dies finds its checkpoint still; where not, what keeps them starts anew."""
        shelf = self._shelf
        kept = shelf is not None and await in_daemon_thread(lambda: shelf.has(generation.name), name="shelf")
        if not kept:
            self._shelf = None
        return kept

    async def running(self, generation: Generation) -> int:
        """Count the replicas that a generation has now."""
        about = (await in_daemon_thread(lambda: _applications(self._name), name="serve.status")).get(generation.name)
        return 0 if about is None else count_running(about, MODEL)

    async def adopt(self) -> tuple[Generation, Mapping[str, Any] | None] | None:
        """Find the newest whose fleet's process has ended, with the wish it was started by, and end the others."""
        found = await in_daemon_thread(lambda: _applications(self._name), name="serve.status")
        self._deployed.update(found)
        for name, about in found.items():
            try:
                if not count_running(about, MODEL):
                    raise ClusterError("none of its replicas is left")
                async with asyncio.timeout(ADOPT_TIMEOUT_S):
                    handle: DeploymentHandle[Any] = serve.get_app_handle(name)
                    card: ModelCard = (await handle.card.remote()).value()
                    checkpoint: Checkpoint
                    wish: Mapping[str, Any] | None
                    checkpoint, wish = await handle.left.remote()
            except (TimeoutError, RayServeException, RayError, RayTrashError) as error:
                what = f"{name} has no model to go on with: {last_line(error)}"
                tell("not_adopted", what, level=logging.WARNING)
                await self.delete(name)
            else:
                for other in self._deployed - {name}:
                    await self.delete(other)
                return Generation(name, checkpoint, handle, card), wish
        return None

    async def end_left(self) -> None:
        """End those of a fleet of this name whose process has ended."""
        for name in await in_daemon_thread(lambda: _applications(self._name), name="serve.status"):
            await self.delete(name)

    def end(self, generation: Generation) -> None:
        """End one in the background, once it has answered what it has."""
        drain = asyncio.ensure_future(self._drain(generation))
        self._drains.add(drain)
        drain.add_done_callback(self._drains.discard)

    async def stop(self) -> None:
        """End all at once."""
        for drain in self._drains:
            drain.cancel()
        for name in list(self._deployed):
            await self.delete(name)

    async def _drain(self, generation: Generation) -> None:
        deadline_s = time.monotonic() + DRAIN_TIMEOUT_S
        await asyncio.sleep(self._drain_s)
        while generation.waiting and time.monotonic() < deadline_s:
            await asyncio.sleep(0.1)
        await self.delete(generation.name)

    async def delete(self, name: str) -> None:
        """End one by its name; Ray Serve goes on with it by itself."""
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
