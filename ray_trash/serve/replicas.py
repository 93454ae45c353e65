"""The replicas of a model, as Ray Serve is told of them: how many, on which machines, with what."""

from __future__ import annotations

from typing import Any

import ray
from ray import serve

from ray_trash.cluster.capacity import machine_cpus, plan_replicas
from ray_trash.cluster.ending import cluster_is_ours
from ray_trash.cluster.growing import can_grow
from ray_trash.cluster.machines import is_listening, usable_machines
from ray_trash.cluster.shares import REPLICA_CPUS
from ray_trash.config import ServeConfig
from ray_trash.serve.replica import SharedReplica
from ray_trash.serve.running import MODEL
from ray_trash.serve.shelf import Origin

SCALING = {"upscale_delay_s": 10.0, "downscale_delay_s": 120.0, "look_back_period_s": 10.0}
"""How long there must be more requests than replicas are for, or fewer. A replica is there ten seconds after it was
asked for; one that has gone is missed when the next burst comes."""
HEALTH_PERIOD_S, HEALTH_TIMEOUT_S = 1.0, 4.0
"""Ray replaces a replica that fails three checks in a row, each a question every second with so long to answer."""


def most_per_machine(settings: ServeConfig) -> int:
    """Return how many replicas a machine may have, for all machines to have their share."""
    # A machine that has just died, or is silent, counts as living for a while, and its share would find no place.
    machines = usable_machines(answers=is_listening)
    return -(-settings.replicas // max(1, len(machines)))


def describe_replicas(
    settings: ServeConfig, origin: Origin, niceness: int, most: int, *, only_first: bool
) -> serve.Application:
    """Describe the replicas of a model, at most so many of them on one machine; with `only_first`, one of them.

    Described of the same origin they are the same to Ray Serve, which goes on with those that it has.

    Raises:
        ClusterError: The cluster has no room for them, and does not grow.
    """
    grows = not cluster_is_ours() and bool(can_grow())
    plan = plan_replicas(settings, ray.cluster_resources(), grows=grows)
    options: dict[str, Any] = {"num_replicas": settings.replicas}
    if only_first:
        options = {"num_replicas": 1}
    elif settings.max_replicas is not None:
        scaling: dict[str, Any] = {"min_replicas": settings.replicas, "max_replicas": settings.max_replicas}
        scaling["target_ongoing_requests"] = settings.target_requests_per_replica
        options = {"autoscaling_config": scaling | SCALING}
    if grows and not plan.gpus:
        # What a replica reserves is less than it needs, so an autoscaler would add no machine for it.
        options["max_replicas_per_node"] = max(1, int(max(machine_cpus(), default=1)))
    elif settings.max_replicas is None and most < settings.replicas:
        # While one machine is away, another has room for more than its share, and they would stay together there.
        options["max_replicas_per_node"] = most
    replicas = serve.deployment(
        name=MODEL,
        ray_actor_options={"num_cpus": REPLICA_CPUS, "num_gpus": plan.gpus},
        # The gateway lets in no more than these, so they wait here, not there.
        max_ongoing_requests=settings.max_waiting_requests,
        health_check_period_s=HEALTH_PERIOD_S,
        health_check_timeout_s=HEALTH_TIMEOUT_S,
        graceful_shutdown_wait_loop_s=0.5,
        graceful_shutdown_timeout_s=settings.timeout_s,
        **options,
    )(SharedReplica)
    # By default each description is of a version of its own, whose replicas take the place of those before.
    replicas = replicas.options(version=origin.name, _internal=True)
    return replicas.bind(origin, settings.model_dump(), plan.n_threads, niceness)
