"""How many workers score, and with what, decided from numbers alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pytest

from ray_trash.cluster.capacity import ScoringPlan, plan_scoring
from ray_trash.errors import ClusterError, ConfigError


def plan_exact(
    workers: int | None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    machines: Sequence[float] = (2.0,),
    gpus: int = 0,
) -> ScoringPlan:
    """As evaluation does, which is equal to the bit for any number of workers."""
    return plan_scoring(workers, device, machines, gpus, one_thread_each=True)


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
def test_up_to_two_workers_share_a_cpu(workers):
    plan = plan_exact(workers)
    assert (plan.workers, plan.device, plan.n_threads) == (workers, "cpu", 1)


def test_left_open_there_is_a_worker_for_every_cpu_or_every_gpu():
    assert plan_exact(None).workers == 2
    assert plan_exact(None, machines=[64.0], gpus=8).workers == 8


def test_auto_takes_gpus_where_there_are_some_and_cpu_is_taken_at_its_word():
    assert plan_exact(2, "auto", [64.0], 8).device == "cuda"
    assert plan_exact(2, "cpu", [64.0], 8).device == "cpu"


@pytest.mark.parametrize(
    ("workers", "machines", "gpus", "plan"),
    [
        (None, [2.0], 0, ScoringPlan(1, "cpu", 2, 1.5, 2)),
        (None, [64.0, 32.0], 0, ScoringPlan(2, "cpu", 32, 31.5, 96)),
        (2, [2.0], 0, ScoringPlan(2, "cpu", 1, 0.5, 2)),
        (4, [2.0], 0, ScoringPlan(4, "cpu", 1, 0.4, 2)),
        (3, [8.0, 8.0], 0, ScoringPlan(3, "cpu", 4, 3.5, 16)),
        (None, [16.0], 2, ScoringPlan(2, "cuda", 1, 0.4, 16)),
        (1, [16.0], 2, ScoringPlan(1, "cuda", 1, 0.4, 16)),
    ],
)
def test_workers_share_the_processors_of_their_machine(
    workers: int | None, machines: list[float], gpus: int, plan: ScoringPlan
) -> None:
    assert plan_scoring(workers, "auto", machines, gpus, one_thread_each=False) == plan


def test_workers_that_do_not_fit_are_refused_with_asked_and_available():
    with pytest.raises(ClusterError, match=r"asks for 2\.5 CPUs.*available: 2;.*at most 4 workers"):
        plan_exact(5)
    with pytest.raises(ClusterError, match="asks for 9 GPUs, one each; available: 8"):
        plan_exact(9, machines=[64.0], gpus=8)


@pytest.mark.parametrize(("workers", "machines", "gpus"), [(5, [2.0], 0), (3, [16.0], 2), (None, [], 0)])
def test_more_than_there_is_is_refused_with_the_numbers(workers: int | None, machines: list[float], gpus: int) -> None:
    with pytest.raises(ClusterError, match="available"):
        plan_scoring(workers, "auto", machines, gpus, one_thread_each=False)


@pytest.mark.parametrize(("workers", "asked"), [(1, 1), (None, 1), (3, 3)])
def test_gpus_a_cluster_does_not_have_are_refused(workers, asked):
    with pytest.raises(ClusterError, match=f"asks for {asked} GPUs, one each; available: 0"):
        plan_exact(workers, "cuda")


@pytest.mark.parametrize("workers", [0, -1])
def test_less_than_one_worker_is_a_usage_error(workers):
    with pytest.raises(ConfigError, match=f"workers={workers}: give 1 or more"):
        plan_exact(workers)


@pytest.mark.parametrize(
    ("n_photos", "views", "workers", "readers"),
    [(1, 1, 1, 1), (127, 1, 1, 1), (128, 1, 2, 2), (511, 1, 7, 7), (127, 8, 8, 1), (100_000, 1, 8, 64)],
)
def test_no_process_starts_for_fewer_photos_than_are_scored_meanwhile(n_photos, views, workers, readers):
    plan = plan_exact(None, machines=[64.0], gpus=8).scaled_to(n_photos, views=views)
    assert (plan.workers, plan.readers) == (workers, readers)
