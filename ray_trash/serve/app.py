"""The same endpoint as a Ray Serve application, for `serve deploy configs/serve-deploy.yaml`.

Ray's own proxy stands in front of it then; `ray_trash.serve.proxy` bounds what it reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from functools import partial
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import ApplicationStatus
from starlette.types import ASGIApp

from ray_trash.cluster.capacity import count_machines
from ray_trash.cluster.carry import Carried
from ray_trash.cluster.shares import GATEWAY_CPUS
from ray_trash.cluster.waiting import in_daemon_thread
from ray_trash.config import ServeConfig, serve_config
from ray_trash.errors import ClusterError, ConfigError, RayTrashError
from ray_trash.model.checkpoint import MARKER, Checkpoint, open_checkpoint
from ray_trash.serve import notice
from ray_trash.serve.contract import ModelCard
from ray_trash.serve.follower import NOTICED_S, FleetState, Follower
from ray_trash.serve.gateway import Gateway
from ray_trash.serve.key import keys_of
from ray_trash.serve.log import start_log
from ray_trash.serve.own_address import listen_in_the_cluster_alone
from ray_trash.serve.replicas import HEALTH_PERIOD_S, HEALTH_TIMEOUT_S
from ray_trash.serve.shadow import ShadowedFleet, uri_of
from ray_trash.storage import Storage

STARTS = 3
"""How often Ray Serve starts the fleet before it calls the application failed."""
LOOK_S = 5.0
"""How often an application without a model looks for a good checkpoint, and for room."""
OF_THE_PROXY = {
    "drain_s": "set the deployment's graceful_shutdown_timeout_s",
    "keep_alive_s": "set http_options.keep_alive_timeout_s",
    "header_timeout_s": "put a proxy with such a limit before it",
}
"""Keys that only `ray-trash serve` obeys, and what does the same."""


class Models:
    """The fleet of a Serve config, kept by one process for all gateways: the models are applications beside its own.

    What was accepted is what the replicas hold. A process that takes the place of one that ended goes on with them,
    whatever the folder of the checkpoint holds by then.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """Wait for `reconfigure`; `settings` is the `serve` section."""
        self._settings = ServeConfig.model_validate(settings)
        listen_in_the_cluster_alone()
        start_log(self._settings.log_format)
        self._application = serve.get_replica_context().app_name
        self._fleet = ShadowedFleet(self._settings, name=self._application, drain_s=NOTICED_S)
        self._one_at_a_time = asyncio.Lock()
        self._at_work: set[asyncio.Task[None]] = set()
        self._begin(self._fleet.look_after())

    async def reconfigure(self, user_config: Mapping[str, Any]) -> None:
        """Serve the checkpoint that a Serve config names; one that is not good changes nothing but `swap_state`.

        Before the first model this waits until there is a good one, and machines for it, however long: an application
        that runs, for Ray and for what moves traffic to it, is one that answers.
        """
        if await self._fleet.card() is not None:
            self._begin(self._obey(user_config))
        elif await self._fleet.adopt():
            self._begin(self._take_over(user_config))
        else:
            await self._start(user_config)
            self._begin(self._try_out(self._fleet.wish or user_config))

    async def state(self) -> FleetState:
        """Say whose replicas answer."""
        fleet = self._fleet
        return FleetState(
            fleet.application(),
            await fleet.card(),
            await fleet.swap_state(),
            dict(fleet.exchanges()),
            await fleet.description(),
            await fleet.shadow(),
            fleet.shadow_application(),
        )

    async def roll_back(self) -> Carried[ModelCard]:
        """Go back to the checkpoint before this one, or say why not."""
        return await _carried(self._fleet.roll_back())

    async def promote(self) -> Carried[ModelCard]:
        """Let the model on trial answer, or say why not."""
        return await _carried(self._fleet.promote())

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        # Ray Serve waits for `reconfigure`, and may send no request until it returns.
        task = asyncio.ensure_future(work)
        self._at_work.add(task)
        task.add_done_callback(self._at_work.discard)

    async def _obey(self, wish: Mapping[str, Any]) -> None:
        await self._move_to(wish)
        await self._try_out(wish)

    async def _start(self, wish: Mapping[str, Any]) -> None:
        seen, told = b"", ""
        while True:
            self._fleet.wish, checkpoint = dict(wish), None
            try:
                checkpoint = await _look(wish, seen)
                if checkpoint is not None:
                    await self._fleet.swap(checkpoint)
                    break
            except ClusterError:
                pass  # nothing is wrong with it: there may be room for it later
            except RayTrashError as error:
                if checkpoint is not None:
                    seen = checkpoint.marker  # the fleet has told why
                elif str(error) != told:
                    self._refuse(wish, error)
                told = str(error)
            said = dict(await self._fleet.swap_state())
            await in_daemon_thread(partial(notice.post, self._application, said), name="notice")
            await asyncio.sleep(LOOK_S)
            # Ray has a process that is starting finish with the config it began with.
            wish = await in_daemon_thread(partial(_asked_for, self._application), name="serve.details") or wish
        await in_daemon_thread(partial(notice.take_down, self._application), name="notice")

    async def _move_to(self, wish: Mapping[str, Any]) -> None:
        async with self._one_at_a_time:
            before, self._fleet.wish = self._fleet.wish, dict(wish)
            try:
                checkpoint = await _open(wish)
            except RayTrashError as error:
                self._fleet.wish = before
                self._refuse(wish, error)
                return
            card = await self._fleet.card()
            if card is not None and card.id == checkpoint.document.id:
                self._fleet.settle()
                return
            try:
                await self._fleet.swap(checkpoint)
            except RayTrashError:
                self._fleet.wish = before  # the fleet has told why

    def _refuse(self, wish: Mapping[str, Any], error: RayTrashError) -> None:
        uri = uri_of(str(wish.get("checkpoint", "")))
        self._fleet.refuse(uri.rsplit("/", 1)[-1], error, uri)

    async def _try_out(self, wish: Mapping[str, Any]) -> None:
        place = wish.get("shadow")
        await self._fleet.try_out(None if place is None else str(place))

    async def _take_over(self, wish: Mapping[str, Any]) -> None:
        if self._fleet.wish != wish:
            await self._move_to(wish)
        await self._try_out(wish)

    async def __del__(self) -> None:
        """End the models with the application; where only this gateway ends, the next one goes on with them."""
        status = await in_daemon_thread(serve.status, name="serve.status")
        about = status.applications.get(self._application)
        if about is None or about.status == ApplicationStatus.DELETING:
            await in_daemon_thread(partial(notice.take_down, self._application), name="notice")
            await self._fleet.stop()


class Deployed:
    """A gateway of a Serve config; a cluster may have one on every machine."""

    def __init__(self, models: DeploymentHandle[Any], settings: Mapping[str, Any]) -> None:
        """Follow the fleet; `settings` is the `serve` section."""
        self._settings = ServeConfig.model_validate(settings)
        listen_in_the_cluster_alone()
        start_log(self._settings.log_format)
        application = serve.get_replica_context().app_name
        self._follower = Follower(models, self._settings, notice=partial(notice.read, application))
        self._following = asyncio.ensure_future(self._follower.follow())

    def __serve_build_asgi_app__(self) -> ASGIApp:
        """Build what Ray Serve sends requests to."""
        gateway = Gateway(self._follower, self._settings, keys=keys_of(self._settings))
        return gateway.application(sends_request_id=False)


async def _carried(work: Coroutine[Any, Any, ModelCard]) -> Carried[ModelCard]:
    try:
        return Carried(await work)
    except RayTrashError as error:
        return Carried(None, error)


async def _open(wish: Mapping[str, Any]) -> Checkpoint:
    return await in_daemon_thread(lambda: open_checkpoint(_place(wish)), name="open")


async def _look(wish: Mapping[str, Any], seen: bytes) -> Checkpoint | None:
    """Open the checkpoint of a wish, unless its marker is one that was seen."""

    def look() -> Checkpoint | None:
        place = Storage.at(_place(wish))
        is_seen = seen and place.exists(MARKER) and place.read_bytes(MARKER) == seen
        return None if is_seen else open_checkpoint(place)

    return await in_daemon_thread(look, name="open")


def _place(wish: Mapping[str, Any]) -> str:
    place = wish.get("checkpoint")
    if not isinstance(place, str):
        raise ConfigError("user_config of Models: expected `checkpoint: PLACE`")
    return place


def _asked_for(application: str) -> Mapping[str, Any]:
    client: Any = serve.context._get_global_client()
    deployments = client.get_serve_details()["applications"].get(application, {}).get("deployments", {})
    found: Mapping[str, Any] = deployments.get("Models", {}).get("deployment_config", {}).get("user_config") or {}
    return found


def build(args: Mapping[str, Any]) -> serve.Application:
    """Build the application; `args` are keys of the `serve` section.

    The checkpoint is the `user_config` of the deployment `Models`, so that deploying another one exchanges the model
    under the gateways that run, or leaves it as it is if the new one is not good; `shadow` beside it is the place of a
    checkpoint on trial. There is a gateway for every machine that the cluster has by then; `num_replicas` of the
    deployment `Gateway` is another number of them.
    """
    for key in OF_THE_PROXY.keys() & args.keys():
        raise ConfigError(f"serve.{key}: has no effect behind Ray's own proxy; {OF_THE_PROXY[key]}")
    settings = serve_config({}, {f"serve.{key}": value for key, value in args.items()})
    process: dict[str, Any] = {
        "ray_actor_options": {"num_cpus": GATEWAY_CPUS},
        "health_check_period_s": HEALTH_PERIOD_S,
        "health_check_timeout_s": HEALTH_TIMEOUT_S,
    }
    fleet = serve.deployment(name="Models", num_replicas=1, max_constructor_retry_count=STARTS, **process)(Models)
    gateway = serve.deployment(
        name="Gateway",
        num_replicas=max(1, count_machines()),
        max_replicas_per_node=1,
        max_ongoing_requests=settings.max_waiting_requests,
        max_queued_requests=settings.max_waiting_requests,
        **process,
    )(serve.ingress()(Deployed))
    return gateway.bind(fleet.bind(settings.model_dump()), settings.model_dump())
