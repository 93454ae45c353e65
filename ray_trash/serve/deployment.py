"""An application of a Serve config from outside: what state it is in, and how it is taken away."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.schema import ApplicationStatus, ApplicationStatusOverview

from ray_trash.errors import CheckpointError, ClusterError, ConfigError
from ray_trash.serve import notice
from ray_trash.serve.follower import ANSWER_TIMEOUT_S, FleetState
from ray_trash.serve.running import MODEL, count_running
from ray_trash.terminal.text import listed

DOWN_TIMEOUT_S = 120.0
"""How long a deployment may take to answer what is waiting and to end."""
_EXIT_CODES = {"serving": 0, "refused": CheckpointError.exit_code}


@dataclass(frozen=True)
class Deployment:
    """What an application is doing.

    Attributes:
        state: `serving` as asked; `refused`, where the checkpoint that was asked for last is not served; `waiting` for
            machines or a model; `unhealthy`, where Ray says so or no replica runs.
        model: The id of the model that answers; None where none does.
        replicas, gateways: Processes that run.
        detail: Why, where it is not serving.
    """

    state: Literal["serving", "refused", "waiting", "unhealthy"]
    model: str | None
    replicas: int
    gateways: int
    detail: str

    @property
    def exit_code(self) -> int:
        """What a command ends with that reports it: 0, 4 where refused, else 6."""
        return _EXIT_CODES.get(self.state, ClusterError.exit_code)


def look_at(name: str) -> Deployment:
    """Say what an application of the connected cluster is doing.

    Raises:
        ConfigError: There is none of that name.
    """
    applications = serve.status().applications
    if name not in applications:
        raise ConfigError(f"{name}: no such deployment; {_those_there(applications)}")
    about = applications[name]
    state = _ask(name) if count_running(about, "Models") else FleetState(swap=notice.read(name))
    models = applications.get(state.application or "")
    replicas, swap = (count_running(models, MODEL) if models else 0), state.swap or {}
    gateways, model = count_running(about, "Gateway"), state.card.id if state.card else None
    if swap.get("status") == "refused":
        return Deployment("refused", model, replicas, gateways, f"{swap['checkpoint']}, {swap['at']}: {swap['detail']}")
    failed = (ApplicationStatus.DEPLOY_FAILED, ApplicationStatus.UNHEALTHY)
    if about.status in failed or (model is not None and not replicas):
        return Deployment("unhealthy", model, replicas, gateways, _why(about))
    if model is None or not gateways:
        return Deployment("waiting", model, replicas, gateways, swap.get("detail") or _why(about))
    return Deployment("serving", model, replicas, gateways, "")


def take_down(name: str) -> None:
    """Take an application away with its models, and no other of the connected cluster.

    Raises:
        ConfigError: There is none of that name.
        ClusterError: It is still there after `DOWN_TIMEOUT_S`.
    """
    there = _applications_of(name)
    if not there:
        raise ConfigError(f"{name}: no such deployment; {_those_there(serve.status().applications)}")
    deadline_s = time.monotonic() + DOWN_TIMEOUT_S
    if name in there:
        # Its own process ends the models, once it has ended.
        serve.delete(name, _blocking=False)
        _wait(lambda: name not in _applications_of(name), deadline_s)
    for model in _applications_of(name):
        serve.delete(model, _blocking=False)
    _wait(lambda: not _applications_of(name), deadline_s)
    notice.take_down(name)
    if left := _applications_of(name):
        raise ClusterError(f"{name}: {listed(left)} still there after {DOWN_TIMEOUT_S:g} s; try again, or look at Ray")


def _applications_of(name: str) -> list[str]:
    own = re.compile(rf"{re.escape(name)}(-[a-z]+-[0-9a-f]{{8}})?")  # its fleets name theirs so
    return [application for application in serve.status().applications if own.fullmatch(application)]


def _wait(is_so: Callable[[], bool], deadline_s: float) -> None:
    while not is_so() and time.monotonic() < deadline_s:
        time.sleep(0.5)


def _those_there(applications: dict[str, ApplicationStatusOverview]) -> str:
    own = [name for name, about in applications.items() if {"Models", "Gateway"} <= about.deployments.keys()]
    return f"there is {listed(own)}" if own else "there is none on this cluster"


def _ask(name: str) -> FleetState:
    with suppress(TimeoutError, RayServeException, RayError):
        handle: Any = serve.get_deployment_handle("Models", name)
        state: FleetState = handle.state.remote().result(timeout_s=ANSWER_TIMEOUT_S)
        return state
    return FleetState()


def _why(about: ApplicationStatusOverview) -> str:
    said = [about.message, *(deployment.message for deployment in about.deployments.values())]
    # Of a trace, the last line says what went wrong.
    return next((text.strip().splitlines()[-1].strip() for text in said if text.strip()), "it is starting")
