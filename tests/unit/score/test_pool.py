from __future__ import annotations

import pytest

from ray_trash.errors import ClusterError
from ray_trash.score.pool import PoolPlan, plan_pool


@pytest.mark.parametrize(
    ("workers", "machines", "gpus", "plan"),
    [
        (None, [2.0], 0, PoolPlan(1, "cpu", 2, 1.5)),
        (None, [64.0, 32.0], 0, PoolPlan(2, "cpu", 32, 31.5)),
        (2, [2.0], 0, PoolPlan(2, "cpu", 1, 0.5)),
        (4, [2.0], 0, PoolPlan(4, "cpu", 1, 0.4)),
        (3, [8.0, 8.0], 0, PoolPlan(3, "cpu", 4, 3.5)),
        (None, [16.0], 2, PoolPlan(2, "cuda", 1, 0.4)),
        (1, [16.0], 2, PoolPlan(1, "cuda", 1, 0.4)),
    ],
)
def test_workers_share_the_processors_of_their_machine(
    workers: int | None, machines: list[float], gpus: int, plan: PoolPlan
) -> None:
    assert plan_pool(workers, machines, gpus) == plan


@pytest.mark.parametrize(("workers", "machines", "gpus"), [(5, [2.0], 0), (3, [16.0], 2), (None, [], 0)])
def test_more_than_there_is_is_refused_with_the_numbers(workers: int | None, machines: list[float], gpus: int) -> None:
    with pytest.raises(ClusterError, match="available"):
        plan_pool(workers, machines, gpus)
