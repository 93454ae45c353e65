"""What this command asks of an autoscaler, through the process by which Ray Data and Ray Train ask it too.

An autoscaler knows one request, which stands until the next replaces it. Ray's coordinator adds up the requests of all
who ask, and forgets those that are not renewed, such as that of a command that was killed.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import ray

from ray_trash.cluster.capacity import Bundle
from ray_trash.cluster.waiting import fetch

EXPIRES_S = 30.0
"""How long a request stands that is not renewed; the coordinator looks every 20 s."""
RENEW_EVERY_S = 8.0
_RENEWING: list[threading.Event] = []
"""Of this process's request, while there is one: set to end its renewal."""


def settle_here() -> None:
    """Have what Ray Data starts once a cluster and never ends be on this command's machine.

    Otherwise it is where somebody reads the first photo, on a machine that could then never be given back.
    """
    from ray.data._internal.stats import get_or_create_stats_actor

    _coordinator()
    get_or_create_stats_actor()


def keep(bundles: Sequence[Bundle]) -> None:
    """Have the autoscaler start machines that all of some bundles fit, and keep them until `let_go`.

    It replaces what the command has asked for before.

    Raises:
        ClusterError: The coordinator does not answer.
    """
    _end_renewal()
    fetch(_ask(bundles), what="the autoscaler to be asked")
    over = threading.Event()
    _RENEWING.append(over)
    threading.Thread(target=_renew, args=(bundles, over), name="keeper", daemon=True).start()


def let_go() -> None:
    """Take back what this command has asked for, without waiting: should it end first, nobody renews it."""
    _end_renewal()
    _coordinator().cancel_request.remote(_requester())


def _end_renewal() -> None:
    while _RENEWING:
        _RENEWING.pop().set()


def _renew(bundles: Sequence[Bundle], over: threading.Event) -> None:
    while not over.wait(RENEW_EVERY_S):
        with suppress(Exception):  # a cluster that does not answer now is asked again
            _ask(bundles)


def _coordinator() -> Any:
    # It loads all of Ray Data, for which only who may ask an autoscaler should wait.
    from ray.data._internal.cluster_autoscaler import default_autoscaling_coordinator

    return default_autoscaling_coordinator.get_or_create_autoscaling_coordinator()


def _ask(bundles: Sequence[Bundle]) -> Any:
    from ray.data._internal.cluster_autoscaler.base_autoscaling_coordinator import ResourceRequestPriority

    return _coordinator().request_resources.remote(
        requester_id=_requester(),
        resources=[dict(bundle) for bundle in bundles],
        expire_after_s=EXPIRES_S,
        # The coordinator also tells Ray Data what it may use, of which this command's workers take none beforehand.
        priority=ResourceRequestPriority.LOW,
    )


def _requester() -> str:
    return f"ray-trash-{ray.get_runtime_context().get_job_id()}"
