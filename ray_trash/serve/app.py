"""The same endpoint as a Ray Serve application, for `serve deploy configs/serve-deploy.yaml`.

Ray's own proxy stands in front of it then, which reads a body whole before the gateway may refuse it: put a proxy
with limits before that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle
from starlette.types import ASGIApp

from ray_trash.cluster.shares import GATEWAY_CPUS
from ray_trash.config import ServeConfig, serve_config
from ray_trash.serve.contract import ModelCard, Scored, ServeError
from ray_trash.serve.fleet import ask, deployment, threads
from ray_trash.serve.gateway import Gateway
from ray_trash.serve.replica import Replica
from ray_trash.serve.server import read_api_key

TOLD_S = 5.0
"""How long a replica may take to say what it is."""


class Deployed:
    """A `Backend` whose model Ray Serve's config chooses."""

    def __init__(self, handle: DeploymentHandle[Any], settings: ServeConfig) -> None:
        """Ask the replicas behind a handle."""
        self._handle, self._settings = handle, settings

    async def score(self, photos: Sequence[bytes], *, timeout_s: float) -> Scored:
        """Answer encoded photos."""
        return await ask(self._handle, photos, self._settings, timeout_s=timeout_s)

    async def card(self) -> ModelCard | None:
        """Return the model that answers; None where no replica is there to say."""
        card: ModelCard | None = await _told(self._handle.card.remote())
        return card

    async def swap_state(self) -> Mapping[str, Any]:
        """Say why the checkpoint of the newest config is not served, where it is not."""
        problem = await _told(self._handle.problem.remote())
        return {"status": "refused", "detail": problem} if problem else {}

    async def roll_back(self) -> ModelCard:
        """Refuse: the model is the config's to choose."""
        raise ServeError(409, "deployed", "deploy the config with the checkpoint before this one")


async def _told(answer: Any) -> Any:
    try:
        return await asyncio.wait_for(answer, TOLD_S)
    except (TimeoutError, RayError, RayServeException):
        return None


def build(args: Mapping[str, Any]) -> serve.Application:
    """Build the application; `args` are keys of the `serve` section.

    The checkpoint is the `user_config` of the deployment `Model`, so that deploying another one moves the replicas
    that run to it, or leaves them as they are if it is not good.
    """
    settings = serve_config({}, {f"serve.{key}": value for key, value in args.items()})
    model = deployment(settings, Replica).bind(None, settings.model_dump(), threads(settings))

    def application() -> ASGIApp:
        handle = serve.get_deployment_handle("Model", serve.get_replica_context().app_name)
        return Gateway(Deployed(handle, settings), settings, api_key=read_api_key(settings)).application()

    gateway = serve.deployment(
        name="Gateway",
        max_ongoing_requests=settings.max_waiting_requests,
        max_queued_requests=settings.max_waiting_requests,
        ray_actor_options={"num_cpus": GATEWAY_CPUS},
        health_check_period_s=1,
    )(serve.ingress(application)())
    return gateway.bind(model)
