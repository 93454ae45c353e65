"""Waiting for machines, on a cluster that is made of numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ray_trash.cluster import growing
from ray_trash.cluster.growing import has_types, holding_machines, wait_for_scoring, wait_for_trials, wait_for_workers
from ray_trash.config import TrainConfig, TuneConfig
from ray_trash.errors import ClusterError


class _Cluster:
    """Machines of two CPUs that come one after the other, seconds after they were asked for.

    Time passes only where it is waited.
    """

    def __init__(self, *, grows: bool | None, at_most: int = 0, joining: int = 0) -> None:
        self.grows, self.at_most, self.machines, self.joining = grows, at_most, 0, joining
        self.now_s, self.joined_s = 0.0, -1e9
        self.asked: list[list[dict[str, float]]] = []

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds
        wanted = sum(bundle["CPU"] for bundle in self.asked[-1]) if self.asked else 0
        limit = self.at_most if wanted > 2 * self.machines else 0
        if self.now_s % 20 < 1 and self.machines < max(limit, self.joining):
            self.machines += 1
            self.joined_s = self.now_s


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Callable[..., _Cluster]:
    def made(**how: Any) -> _Cluster:
        cluster = _Cluster(**how)
        monkeypatch.setattr(growing, "keep", lambda bundles: cluster.asked.append(list(bundles)))
        monkeypatch.setattr(growing, "let_go", lambda: cluster.asked.append([]))
        monkeypatch.setattr(growing, "settle_here", lambda: None)
        monkeypatch.setattr(growing, "can_grow", lambda: cluster.grows)
        monkeypatch.setattr(growing, "_last_joined_s", lambda: cluster.now_s - cluster.joined_s)
        monkeypatch.setattr(growing, "_size", lambda: (1 + cluster.machines, 2.0 * cluster.machines))
        monkeypatch.setattr(growing, "count_machines", lambda: cluster.machines)
        monkeypatch.setattr(growing, "machine_cpus", lambda: [2.0] * cluster.machines)
        monkeypatch.setattr("ray.cluster_resources", lambda: {"CPU": 2.0 * cluster.machines})
        monkeypatch.setattr("time.monotonic", lambda: cluster.now_s)
        monkeypatch.setattr("time.sleep", cluster.sleep)
        return cluster

    return made


PAIR = TrainConfig(workers=2)


def test_an_autoscaler_is_asked_for_all_that_a_run_needs_until_its_end(make: Callable[..., _Cluster]) -> None:
    cluster = make(grows=True, at_most=5)
    said: list[str] = []
    with holding_machines():
        plan = wait_for_workers(PAIR, said.append)
        assert (plan.workers, plan.cpus_per_worker) == (2, 1.0)
        assert cluster.asked == [[{"CPU": 1.0}, {"CPU": 1.0}, {"CPU": 0.5}]]
        assert said[0].startswith("waiting for machines that the autoscaler was asked for, 0 s of at most 600 s: train")
        assert "30 s of at most 600 s" in said[1]
    assert cluster.asked[-1] == []


def test_a_cluster_that_stops_growing_is_used_as_it_is(make: Callable[..., _Cluster]) -> None:
    cluster = make(grows=True, at_most=1)
    assert wait_for_workers(PAIR, lambda _: None).cpus_per_worker == 0.75
    assert cluster.now_s < 120


def test_what_does_not_come_is_refused_with_how_long_it_was_waited_for(make: Callable[..., _Cluster]) -> None:
    make(grows=True)
    with pytest.raises(ClusterError, match=r"train\.workers=2 asks for .* \(waited 600 s for machines\)"):
        wait_for_workers(PAIR, lambda _: None)
    with pytest.raises(ClusterError, match=r"workers=3 asks for 1\.5 CPUs.*waited 90 s"):
        wait_for_scoring(3, "auto", one_thread_each=True, wait=90, say=lambda _: None)


def test_nothing_is_waited_for_where_nothing_can_grow(make: Callable[..., _Cluster]) -> None:
    cluster = make(grows=False)
    cluster.machines = 1
    with pytest.raises(ClusterError, match=r"at most 3 workers$"):
        wait_for_workers(TrainConfig(workers=9), lambda _: None)
    assert cluster.now_s == 0
    assert cluster.asked == []


def test_machines_that_are_just_joining_are_waited_for_without_an_autoscaler(make: Callable[..., _Cluster]) -> None:
    cluster = make(grows=None, joining=2)
    said: list[str] = []
    assert wait_for_workers(TrainConfig(workers=5), said.append).workers == 5
    assert said[0].startswith("waiting for machines to join, 0 s of at most 60 s: ")
    assert cluster.asked == []
    make(grows=False, joining=0)
    with pytest.raises(ClusterError, match="waited 60 s for machines"):
        wait_for_workers(PAIR, said.append)


def test_a_sweep_asks_for_all_trials_at_once_and_begins_with_those_that_fit(make: Callable[..., _Cluster]) -> None:
    cluster = make(grows=True, at_most=2)
    plan = wait_for_trials(TrainConfig(), TuneConfig(), 8, lambda _: None)
    assert cluster.asked[0].count({"CPU": 1.0}) == 8
    assert plan.concurrent == 4


def test_scoring_asks_for_the_workers_it_was_given_and_else_for_one(make: Callable[..., _Cluster]) -> None:
    cluster = make(grows=True, at_most=4)
    assert wait_for_scoring(None, "auto", one_thread_each=False, wait="auto", say=lambda _: None).workers == 1
    assert wait_for_scoring(7, "auto", one_thread_each=True, wait="auto", say=lambda _: None).workers == 7
    assert [sum(bundle["CPU"] for bundle in asked) for asked in cluster.asked] == [1.0, 4.0]


@pytest.mark.parametrize(
    ("names", "grows"),
    [([], None), (["node_0a1b", "node_ff"], False), (["headgroup"], True), (["ray.head.default", "node_ff"], True)],
)
def test_an_autoscaler_is_known_by_its_types_of_nodes(names: list[str], grows: bool | None) -> None:
    assert has_types(names) is grows
