"""Waiting for Ray: it ends, and says for what."""

from __future__ import annotations

import time

import pytest
import ray

from ray_trash.cluster.waiting import fetch, fetch_all
from ray_trash.errors import ClusterError


@ray.remote(num_cpus=0)
def asleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@pytest.mark.usefixtures("ray_cluster")
def test_a_wait_ends_in_time_and_says_for_what() -> None:
    with pytest.raises(ClusterError, match=r"waited 0\.2 s for an answer"):
        fetch(asleep.remote(3), what="an answer", timeout_s=0.2)
    with pytest.raises(ClusterError, match="for the tasks"):
        fetch_all([asleep.remote(3), asleep.remote(3)], what="the tasks", timeout_s=0.2)


@pytest.mark.usefixtures("ray_cluster")
def test_a_wait_for_tasks_begins_anew_whenever_one_ends() -> None:
    fetch_all([asleep.remote(0) for _ in range(4)], what="processes")
    seconds = [1.2, 0.0, 2.4]
    assert fetch_all([asleep.remote(each) for each in seconds], what="the tasks", timeout_s=2) == seconds
