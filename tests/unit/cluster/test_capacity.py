"""How many workers a cluster gives, decided from numbers alone."""

from __future__ import annotations

import pytest

from ray_trash.cluster.capacity import plan_workers
from ray_trash.config import TrainConfig
from ray_trash.errors import ClusterError


@pytest.mark.parametrize(
    ("workers", "cpus", "share"), [(1, 2, 1.0), (2, 2, 0.75), (3, 2, 0.5), (1, 1, 0.5), (4, 16, 1.0)]
)
def test_workers_leave_cpus_to_the_stream_that_feeds_them(workers: int, cpus: int, share: float) -> None:
    plan = plan_workers(TrainConfig(workers=workers), {"CPU": cpus}, machines=1)
    assert (plan.workers, plan.device, plan.cpus_per_worker) == (workers, "cpu", share)
    assert plan.workers * plan.cpus_per_worker <= cpus - 0.5


def test_too_many_workers_are_refused_with_asked_and_available() -> None:
    with pytest.raises(ClusterError, match=r"train\.workers=64 asks for 32 CPUs.*the cluster has 2 CPUs.*at most 3"):
        plan_workers(TrainConfig(workers=64), {"CPU": 2}, machines=1)


def test_auto_is_one_worker_a_gpu_and_else_one_a_machine() -> None:
    assert plan_workers(TrainConfig(), {"CPU": 16, "GPU": 4}, machines=2).workers == 4
    assert plan_workers(TrainConfig(), {"CPU": 16, "GPU": 4}, machines=2).resources_per_worker == {
        "CPU": 1.0,
        "GPU": 1.0,
    }
    assert plan_workers(TrainConfig(), {"CPU": 16}, machines=2).workers == 2


def test_gpus_that_are_not_there_are_refused() -> None:
    with pytest.raises(ClusterError, match="asks for 1 GPU; the cluster has 0"):
        plan_workers(TrainConfig(device="cuda"), {"CPU": 2}, machines=1)
    with pytest.raises(ClusterError, match="asks for 3 GPUs; the cluster has 2"):
        plan_workers(TrainConfig(workers=3), {"CPU": 8, "GPU": 2}, machines=1)
