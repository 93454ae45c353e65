from __future__ import annotations

import pytest

from ray_trash.cluster.scoring_plan import plan_scoring
from ray_trash.errors import ClusterError, ConfigError

TWO_CORES = {"CPU": 2.0, "memory": 1e9}
EIGHT_GPUS = {"CPU": 64.0, "GPU": 8.0}


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
def test_up_to_two_workers_share_a_cpu(workers):
    plan = plan_scoring(workers, "auto", TWO_CORES)
    assert (plan.workers, plan.device) == (workers, "cpu")


def test_workers_that_do_not_fit_are_refused_with_asked_and_available():
    with pytest.raises(ClusterError, match=r"asks for 2\.5 CPUs.*available: 2;.*at most 4 workers"):
        plan_scoring(5, "auto", TWO_CORES)


def test_left_open_there_is_a_worker_for_every_cpu_or_every_gpu():
    assert plan_scoring(None, "auto", TWO_CORES).workers == 2
    assert plan_scoring(None, "auto", EIGHT_GPUS).workers == 8


def test_auto_takes_gpus_where_there_are_some_and_cpu_is_taken_at_its_word():
    assert plan_scoring(2, "auto", EIGHT_GPUS).device == "cuda"
    assert plan_scoring(2, "cpu", EIGHT_GPUS).device == "cpu"


@pytest.mark.parametrize(("workers", "asked"), [(1, 1), (None, 1), (3, 3)])
def test_gpus_a_cluster_does_not_have_are_refused(workers, asked):
    with pytest.raises(ClusterError, match=f"asks for {asked} GPUs, one each; available: 0"):
        plan_scoring(workers, "cuda", TWO_CORES)


@pytest.mark.parametrize("workers", [0, -1])
def test_less_than_one_worker_is_a_usage_error(workers):
    with pytest.raises(ConfigError, match=f"workers={workers}: give 1 or more"):
        plan_scoring(workers, "auto", TWO_CORES)


def test_more_workers_than_gpus_are_refused():
    with pytest.raises(ClusterError, match="asks for 9 GPUs, one each; available: 8"):
        plan_scoring(9, "auto", EIGHT_GPUS)


@pytest.mark.parametrize(
    ("n_photos", "views", "workers", "readers"),
    [(1, 1, 1, 1), (127, 1, 1, 1), (128, 1, 2, 2), (511, 1, 7, 7), (127, 8, 8, 1), (100_000, 1, 8, 64)],
)
def test_no_process_starts_for_fewer_photos_than_are_scored_meanwhile(n_photos, views, workers, readers):
    plan = plan_scoring(None, "auto", EIGHT_GPUS).scaled_to(n_photos, views=views)
    assert (plan.workers, plan.readers) == (workers, readers)
