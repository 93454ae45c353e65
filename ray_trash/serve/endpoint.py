"""The `serve` command: a socket, the gateway on it, replicas behind it, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import time
from collections.abc import Iterator, Sequence

import ray
from ray import serve

from ray_trash.cluster.capacity import plan_replicas
from ray_trash.cluster.ending import expect_threads_of_others, ignore_stop_signals, stop_signals
from ray_trash.cluster.waiting import in_daemon_thread
from ray_trash.config import ServeConfig
from ray_trash.model.checkpoint import Checkpoint
from ray_trash.serve.contract import ModelCard
from ray_trash.serve.gateway import Gateway
from ray_trash.serve.key import Keys
from ray_trash.serve.log import tell
from ray_trash.serve.replica import START_TIMEOUT_S
from ray_trash.serve.server import DRAIN_S, server_of
from ray_trash.serve.shadow import ShadowedFleet
from ray_trash.serve.watch import watch
from ray_trash.storage import Storage
from ray_trash.terminal.bar import LINE_EVERY_S
from ray_trash.terminal.text import counted

UPLOADS_S = DRAIN_S - 3.0
"""How long a body that is still arriving may take then; the rest is for telling the client."""


async def run_endpoint(
    checkpoint: Checkpoint,
    settings: ServeConfig,
    taken: Sequence[socket.socket],
    *,
    watched: Storage | None,
    shadow: str | None,
    keys: Keys,
) -> None:
    """Serve a checkpoint on the sockets of `bind` until a signal to stop; needs a connection to Ray.

    Whenever the folder `watched` has another good checkpoint, that one is moved to. The checkpoint at `shadow` is on
    trial from then on, unless it is not good.

    Raises:
        CheckpointError: The checkpoint does not answer as it should.
        ClusterError: The replicas do not start, or there is no room for a model on trial.
    """
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    # What clients do wrong is said to them, and counted.
    for library in ("uvicorn.error", "python_multipart"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    stop = asyncio.Event()
    with set_by_signals(stop):
        fleet = ShadowedFleet(settings)
        gateway = Gateway(fleet, settings, keys=keys)
        server = server_of(gateway, settings)
        serving = asyncio.ensure_future(server.serve(sockets=list(taken)))
        stopping = asyncio.ensure_future(stop.wait())
        starting = asyncio.ensure_future(_start(fleet, checkpoint, settings, with_shadow=shadow is not None))
        served = checkpoint.marker
        # From here on the fleet has it, for as long as somebody may go back to it.
        del checkpoint
        renewing = asyncio.ensure_future(fleet.look_after())
        watching: asyncio.Task[None] | None = None
        trying: asyncio.Task[None] | None = None
        try:
            await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
            if not stop.is_set():
                card = starting.result()
                host, port = taken[0].getsockname()[:2]
                address = f"[{host}]" if ":" in host else host
                url, who = f"http://{address}:{port}", f"{card.id} ({card.engine})"
                tell("ready", f"ready: {url} answers by {who}; stop it with Ctrl-C or SIGTERM", url=url, model=card.id)
                if watched is not None:
                    watching = asyncio.ensure_future(_watch(watched, served, fleet, settings.watch_interval_s))
                if shadow is not None:
                    trying = asyncio.ensure_future(fleet.try_out(shadow))
                await stop.wait()
                tell("stopping", f"stopping: unready for {settings.drain_s:g} s, answering what is waiting")
                gateway.draining = True
                await asyncio.sleep(settings.drain_s)
        finally:
            for task in (starting, stopping, watching, trying, renewing):
                if task is not None:
                    task.cancel()
            server.should_exit = True
            refusing = asyncio.get_running_loop().call_later(UPLOADS_S, gateway.refuse_unfinished)
            await serving
            refusing.cancel()
            await fleet.stop()


@contextlib.contextmanager
def set_by_signals(stop: asyncio.Event) -> Iterator[None]:
    """Set an event at signals to stop while the block runs; those after it change nothing.

    Not by the loop's own handlers: taking one of them away leaves an instant in which a signal kills the process.
    """
    loop = asyncio.get_running_loop()
    for number in stop_signals():
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(stop.set))
    try:
        yield
    finally:
        ignore_stop_signals()


async def _watch(place: Storage, served: bytes, fleet: ShadowedFleet, interval_s: float) -> None:
    try:
        await watch(place, served, fleet, interval_s=interval_s)
    except Exception as error:
        tell("not_watching", "no longer watching, but still answering", level=logging.ERROR, error=error)


async def _start(
    fleet: ShadowedFleet, checkpoint: Checkpoint, settings: ServeConfig, *, with_shadow: bool
) -> ModelCard:
    plan_replicas(settings, ray.cluster_resources(), with_shadow=with_shadow)
    reminding = asyncio.ensure_future(_say_what_is_waited_for(checkpoint.document.id, settings.replicas))
    try:
        return await _start_fleet(fleet, checkpoint)
    finally:
        reminding.cancel()


async def _say_what_is_waited_for(model: str, n_replicas: int) -> None:
    started_s = time.monotonic()
    replicas = counted(n_replicas, "replica")
    while True:
        took_s = time.monotonic() - started_s
        what = f"starting {replicas}, to load {model} and answer a first photo: {took_s:.0f} s of {START_TIMEOUT_S:g} s"
        tell("starting", what, model=model, replicas=n_replicas, seconds=round(took_s, 1))
        await asyncio.sleep(LINE_EVERY_S)


async def _start_fleet(fleet: ShadowedFleet, checkpoint: Checkpoint) -> ModelCard:
    # Ray Serve's, which look for replicas that come and go.
    expect_threads_of_others()
    # Requests come through this process, so Ray's own proxies would only hold a port.
    quiet = {"enable_access_log": False, "log_level": "WARNING"}
    await in_daemon_thread(lambda: serve.start(proxy_location="Disabled", logging_config=quiet), name="serve.start")
    return await fleet.swap(checkpoint)
