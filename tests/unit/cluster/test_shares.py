"""What each kind of process has of a cluster, from numbers alone."""

from __future__ import annotations

import pytest

from ray_trash.cluster.shares import DECODE_TASK_CPUS, READ_TASK_CPUS, plan_reading

GIB = 2**30


@pytest.mark.parametrize(("cpus", "workers", "tasks"), [(2, 1, 2), (1, 1, 1), (2, 4, 1), (96, 8, 12)])
def test_photos_are_read_by_a_task_for_each_processor_in_all(cpus: int, workers: int, tasks: int) -> None:
    assert plan_reading({"CPU": cpus}, workers=workers, on_gpus=False).tasks == tasks


def test_what_is_read_ahead_grows_with_the_tasks_and_leaves_the_object_store_room() -> None:
    few, many = (plan_reading({"CPU": cpus}, workers=1, on_gpus=True).ahead_bytes for cpus in (2, 64))
    assert (few, many) == (GIB // 4, GIB)
    small = plan_reading({"CPU": 64, "object_store_memory": GIB / 2}, workers=8, on_gpus=True)
    assert small.ahead_bytes * 8 == GIB / 16


def test_tasks_that_read_for_gpus_reserve_more_of_a_machine() -> None:
    reserved = [plan_reading({"CPU": 8}, workers=1, on_gpus=on_gpus).cpus for on_gpus in (False, True)]
    assert reserved == [READ_TASK_CPUS, DECODE_TASK_CPUS]
