"""Which replicas there are, as Ray Serve tells."""

from __future__ import annotations

from ray import serve
from ray.serve.schema import ApplicationStatusOverview

MODEL = "Model"
"""The deployment that the replicas of a model belong to."""


def count_running(about: ApplicationStatusOverview, deployment: str) -> int:
    """Count the replicas of a deployment that Ray Serve believes to be running."""
    found = about.deployments.get(deployment)
    return 0 if found is None else sum(n for state, n in found.replica_states.items() if state == "RUNNING")


def somebody_answers() -> bool:
    """Say whether any model of this cluster has a replica that runs."""
    return any(count_running(about, MODEL) for about in serve.status().applications.values())
