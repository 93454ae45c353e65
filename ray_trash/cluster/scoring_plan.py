"""How many workers score, and where: decided from totals before anything starts.

Numbers in, a `ScoringPlan` out. Does not know Ray.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from ray_trash.errors import ClusterError, ConfigError

CPUS_PER_WORKER = 0.5
"""What a worker counts for when the cluster is asked whether it has room."""
PHOTOS_PER_START = 64
"""Photos that are scored in the time that one more process takes to start: four seconds, at 224 pixels on one CPU."""


@dataclass(frozen=True)
class ScoringPlan:
    """Who scores.

    Attributes:
        workers: Processes with a network each.
        device: Where each of them computes.
        readers: Reading tasks that run at a time, at most.
    """

    workers: int
    device: Literal["cpu", "cuda"]
    readers: int

    def scaled_to(self, n_photos: int, *, views: int) -> ScoringPlan:
        """Return a plan without processes that would start for too few photos, each computed in so many views."""
        workers, readers = (max(1, n // PHOTOS_PER_START) for n in (n_photos * views, n_photos))
        return replace(self, workers=min(self.workers, workers), readers=min(self.readers, readers))


def plan_scoring(
    workers: int | None,
    device: Literal["auto", "cpu", "cuda"],
    resources: Mapping[str, float],
) -> ScoringPlan:
    """Decide workers and device from what a cluster has.

    Args:
        workers: As asked, at least 1; None takes one per GPU, or one per CPU where there is none.
        device: As asked; `auto` takes GPUs where the cluster has some.
        resources: `CPU` and `GPU`, as `ray.cluster_resources()` gives them.

    Raises:
        ConfigError: `workers` is below 1.
        ClusterError: There are too few CPUs or GPUs; the message says asked and available.
    """
    if workers is not None and workers < 1:
        raise ConfigError(f"workers={workers}: give 1 or more")
    cpus, gpus = resources.get("CPU", 0.0), int(resources.get("GPU", 0))
    on: Literal["cpu", "cuda"] = device if device != "auto" else "cuda" if gpus else "cpu"
    if workers is None:
        workers = max(1, gpus if on == "cuda" else int(cpus))
    if on == "cuda" and workers > gpus:
        raise ClusterError(
            f"workers={workers} asks for {workers} GPUs, one each; available: {gpus}; "
            "ask for fewer workers or for device=cpu"
        )
    if workers * CPUS_PER_WORKER > cpus:
        raise ClusterError(
            f"workers={workers} asks for {workers * CPUS_PER_WORKER:g} CPUs, "
            f"{CPUS_PER_WORKER:g} each; available: {cpus:g}; ask for at most "
            f"{int(cpus / CPUS_PER_WORKER)} workers"
        )
    return ScoringPlan(workers, on, readers=max(1, int(cpus)))
