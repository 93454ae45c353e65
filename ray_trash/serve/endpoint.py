"""The `serve` command: a socket, the gateway on it, replicas behind it, until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence

from ray import serve

from ray_trash.cluster.ending import stop_signals
from ray_trash.cluster.waiting import in_daemon_thread
from ray_trash.config import ServeConfig
from ray_trash.model.checkpoint import Checkpoint
from ray_trash.serve.contract import ModelCard
from ray_trash.serve.fleet import Fleet
from ray_trash.serve.gateway import Gateway
from ray_trash.serve.key import Keys
from ray_trash.serve.log import tell
from ray_trash.serve.server import DRAIN_S, server_of
from ray_trash.serve.watch import watch
from ray_trash.storage import Storage

UPLOADS_S = DRAIN_S - 3.0
"""How long a body that is still arriving may take then; the rest is for telling the client."""


async def run_endpoint(
    checkpoint: Checkpoint,
    settings: ServeConfig,
    taken: Sequence[socket.socket],
    *,
    watched: Storage | None,
    keys: Keys,
) -> None:
    """Serve a checkpoint on the sockets of `bind` until a signal to stop; needs a connection to Ray.

    Whenever the folder `watched` has another good checkpoint, that one is moved to.

    Raises:
        CheckpointError: The checkpoint does not answer as it should.
        ClusterError: The replicas do not start.
    """
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    # What clients do wrong is said to them, and counted.
    for library in ("uvicorn.error", "python_multipart"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in stop_signals():
        loop.add_signal_handler(number, stop.set)
    fleet = Fleet(settings)
    gateway = Gateway(fleet, settings, keys=keys)
    server = server_of(gateway, settings)
    serving = asyncio.ensure_future(server.serve(sockets=list(taken)))
    stopping = asyncio.ensure_future(stop.wait())
    starting = asyncio.ensure_future(_start(fleet, checkpoint))
    renewing = asyncio.ensure_future(fleet.look_after())
    watching: asyncio.Task[None] | None = None
    try:
        await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            card = starting.result()
            host, port = taken[0].getsockname()[:2]
            address = f"[{host}]" if ":" in host else host
            url, who = f"http://{address}:{port}", f"{card.id} ({card.engine})"
            tell("ready", f"ready: {url} answers by {who}; stop it with Ctrl-C or SIGTERM", url=url, model=card.id)
            if watched is not None:
                watching = asyncio.ensure_future(_watch(watched, checkpoint, fleet, settings.watch_interval_s))
            await stop.wait()
            tell("stopping", f"stopping: unready for {settings.drain_s:g} s, answering what is waiting")
            gateway.draining = True
            await asyncio.sleep(settings.drain_s)
    finally:
        for task in (starting, stopping, watching, renewing):
            if task is not None:
                task.cancel()
        server.should_exit = True
        refusing = loop.call_later(UPLOADS_S, gateway.refuse_unfinished)
        await serving
        refusing.cancel()
        await fleet.stop()


async def _watch(place: Storage, served: Checkpoint, fleet: Fleet, interval_s: float) -> None:
    try:
        await watch(place, served, fleet, interval_s=interval_s)
    except Exception as error:
        tell("not_watching", "no longer watching, but still answering", level=logging.ERROR, error=error)


async def _start(fleet: Fleet, checkpoint: Checkpoint) -> ModelCard:
    # Requests come through this process, so Ray's own proxies would only hold a port.
    quiet = {"enable_access_log": False, "log_level": "WARNING"}
    await in_daemon_thread(lambda: serve.start(proxy_location="Disabled", logging_config=quiet), name="serve.start")
    return await fleet.swap(checkpoint)
