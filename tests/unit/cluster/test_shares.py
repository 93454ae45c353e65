"""What each kind of process has of a cluster, from numbers alone."""

from __future__ import annotations

import pytest

from ray_trash.cluster.shares import DECODE_TASK_CPUS, plan_reading

GIB = 2**30


@pytest.mark.parametrize(("cpus", "workers", "tasks"), [(2, 1, 2), (1, 1, 1), (2, 4, 1), (96, 8, 12)])
def test_photos_are_read_by_a_task_for_each_processor_in_all(cpus: int, workers: int, tasks: int) -> None:
    assert plan_reading({"CPU": cpus}, workers=workers, worker_cpus=0.5, on_gpus=False).tasks == tasks


def test_what_is_read_ahead_grows_with_the_tasks_and_leaves_the_object_store_room() -> None:
    few, many = (plan_reading({"CPU": cpus}, workers=1, worker_cpus=1, on_gpus=True).ahead_bytes for cpus in (2, 64))
    assert (few, many) == (GIB // 4, GIB)
    small = plan_reading({"CPU": 64, "object_store_memory": GIB / 2}, workers=8, worker_cpus=1, on_gpus=True)
    assert small.ahead_bytes * 8 == GIB / 16


@pytest.mark.parametrize(
    ("cpus", "workers", "worker_cpus"), [(2, 1, 1.0), (2, 2, 0.75), (1, 1, 0.5), (8, 1, 1.0), (80, 20, 1.0)]
)
def test_no_more_tasks_read_at_once_than_there_are_processors(cpus: int, workers: int, worker_cpus: float) -> None:
    plan = plan_reading({"CPU": cpus}, workers=workers, worker_cpus=worker_cpus, on_gpus=False)
    left = cpus - workers * worker_cpus
    assert int(left / plan.cpus) == workers * plan.tasks


def test_a_task_fits_beside_the_worker_of_each_machine_though_all_of_them_leave_half_a_processor_together() -> None:
    plan = plan_reading({"CPU": 3}, workers=3, worker_cpus=0.83, on_gpus=False)
    assert 0 < plan.cpus <= 1 - 0.83


def test_tasks_that_read_for_gpus_reserve_a_share_that_spreads_them_over_machines() -> None:
    assert plan_reading({"CPU": 8}, workers=1, worker_cpus=1, on_gpus=True).cpus == DECODE_TASK_CPUS
