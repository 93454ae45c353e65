"""How many workers a cluster gives, decided from numbers alone."""

from __future__ import annotations

import pytest

from ray_trash.cluster.capacity import ReplicaPlan, plan_replicas, plan_trials, plan_workers
from ray_trash.cluster.shares import TRIAL_MEMORY_BYTES
from ray_trash.config import ServeConfig, TrainConfig, TuneConfig
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


@pytest.mark.parametrize(
    ("cpus", "workers", "trials", "concurrent", "share"),
    [
        (2, "auto", 16, 2, 0.75),
        (2, 0, 1, 1, 1.0),
        (1, 1, 4, 1, 0.5),
        (8, 1, 16, 8, 0.93),
        (8, 2, 16, 4, 0.93),
        (4, 2, 9, 2, 0.87),
    ],
)
def test_trials_share_the_processors_and_leave_some_to_reading(
    cpus: int, workers: int, trials: int, concurrent: int, share: float
) -> None:
    plan = plan_trials(TrainConfig(workers=workers), TuneConfig(), {"CPU": cpus}, machines=1, trials=trials)
    assert plan.concurrent == concurrent
    assert plan.workers.cpus_per_worker == share
    assert plan.concurrent * plan.workers.workers * plan.workers.cpus_per_worker <= cpus - 0.5
    assert plan.runs_per_machine == concurrent


def test_a_trial_of_one_worker_is_that_worker_and_others_only_wait() -> None:
    alone = plan_trials(TrainConfig(workers=1), TuneConfig(), {"CPU": 4}, machines=1, trials=4)
    assert alone.workers.in_process
    assert alone.resources_per_trial == alone.workers.resources_per_worker
    pair = plan_trials(TrainConfig(workers=2), TuneConfig(), {"CPU": 8}, machines=1, trials=4)
    assert not pair.workers.in_process
    assert pair.resources_per_trial["CPU"] < 0.1


def test_every_trial_has_a_gpu_of_its_own_where_there_are_some() -> None:
    plan = plan_trials(TrainConfig(), TuneConfig(), {"CPU": 32, "GPU": 4}, machines=2, trials=16)
    assert (plan.workers.workers, plan.workers.device, plan.concurrent, plan.runs_per_machine) == (1, "cuda", 4, 2)
    assert plan.resources_per_trial == {"CPU": 1.0, "GPU": 1.0}


def test_trials_at_once_are_no_more_than_memory_holds() -> None:
    resources = {"CPU": 64, "memory": 3.5 * TRIAL_MEMORY_BYTES}
    assert plan_trials(TrainConfig(), TuneConfig(), resources, machines=1, trials=64).concurrent == 3


def test_more_trials_at_once_than_fit_are_refused_with_asked_and_available() -> None:
    with pytest.raises(ClusterError, match=r"max_concurrent_trials=8 .* has 2 CPUs and 0 GPUs, which is room for 3"):
        plan_trials(TrainConfig(), TuneConfig(max_concurrent_trials=8), {"CPU": 2}, machines=1, trials=2)
    with pytest.raises(ClusterError, match="the cluster has 2 CPUs"):
        plan_trials(TrainConfig(workers=9), TuneConfig(), {"CPU": 2}, machines=1, trials=2)


def test_workers_that_come_and_go_are_as_many_as_auto_takes_within_their_limits_and_as_fit() -> None:
    def planned(cpus: float, *, machines: int, gpus: int = 0, **changes: object) -> int:
        train = TrainConfig.model_validate({"workers": [2, 4], **changes})
        return plan_workers(train, {"CPU": cpus, "GPU": gpus}, machines=machines).workers

    assert [planned(64, machines=n) for n in (1, 2, 3, 4, 9)] == [2, 2, 3, 4, 4]
    assert [planned(64, machines=2, gpus=n) for n in (3, 8)] == [3, 4]
    assert planned(2.5, machines=3, cpus_per_worker=1) == 2
    with pytest.raises(ClusterError, match=r"train\.workers=\[2, 4\] asks for 2 GPUs; the cluster has 1"):
        planned(64, machines=1, gpus=1)
    with pytest.raises(ClusterError, match=r"train\.workers=\[2, 4\] asks for 1 CPUs"):
        planned(1, machines=1)


def test_a_number_that_was_decided_earlier_is_kept() -> None:
    assert plan_workers(TrainConfig(), {"CPU": 8}, machines=1, fixed=3).workers == 3
    with pytest.raises(ClusterError):
        plan_workers(TrainConfig(), {"CPU": 1}, machines=1, fixed=3)


def test_trials_have_the_fewest_of_workers_that_come_and_go() -> None:
    plan = plan_trials(TrainConfig.model_validate({"workers": [1, 4]}), TuneConfig(), {"CPU": 8}, machines=2, trials=4)
    assert plan.workers.workers == 1
    assert plan.workers.in_process


def test_a_model_on_trial_has_a_cpu_beside_those_of_the_replicas_and_takes_none_of_their_threads() -> None:
    serve, resources = ServeConfig(replicas=2), {"CPU": 3}
    assert plan_replicas(serve, resources, with_shadow=True) == plan_replicas(serve, resources)
    with pytest.raises(ClusterError, match=r"replicas=3 and a model on trial ask for 4 CPUs; available: 3; ask for"):
        plan_replicas(ServeConfig(replicas=3), resources, with_shadow=True)


def test_replicas_have_a_cpu_each_and_more_of_them_than_cpus_only_where_an_autoscaler_adds_machines() -> None:
    assert plan_replicas(ServeConfig(replicas=2), {"CPU": 8}) == ReplicaPlan(8, 0.0)
    for wish, resources in ((ServeConfig(replicas=9), {"CPU": 8}), (ServeConfig(device="cuda"), {"CPU": 8})):
        with pytest.raises(ClusterError, match=r"available: [80]"):
            plan_replicas(wish, resources)
        plan_replicas(wish, resources, grows=True)
    assert plan_replicas(ServeConfig(replicas=9), {"CPU": 8}, grows=True).n_threads == 2
