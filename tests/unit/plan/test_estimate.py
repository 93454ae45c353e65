from __future__ import annotations

from typing import Any

import pytest
import torch

from ray_trash.cluster.inventory import Inventory
from ray_trash.cluster.machines import Machine
from ray_trash.config import Config, config_from_tree
from ray_trash.errors import ClusterError
from ray_trash.plan.bench import Pace
from ray_trash.plan.estimate import Basis, Estimate, estimate
from ray_trash.plan.measure import Measured
from ray_trash.plan.room import Room, find_room
from ray_trash.plan.sides import SideCounts
from ray_trash.plan.times import epochs_within, streamed_step_s
from ray_trash.plan.variants import Trainings, trainings_of

GIB = 1 << 30
SIDES = SideCounts(train=320, val=100, test=50, about=False)


def a_config(**sections: Any) -> Config:
    return config_from_tree({"name": "a", "data": {"root": "unused"}, "model": {"weights": "none"}, **sections})


def some_machines(n: int = 1, *, cpus: float = 4, gpus: float = 0, cluster: str = "head:6379") -> Inventory:
    return Inventory(cluster, (Machine("a", cpus, gpus, 64 * GIB, 16 * GIB),) * n)


def planned(config: Config, there_is: Inventory | None = None) -> tuple[Room, Trainings]:
    room = find_room(config, there_is or some_machines())
    return room, trainings_of(config, room, SIDES, torch.float32)


def estimated(config: Config, there_is: Inventory | None = None, **changes: Any) -> Estimate:
    room, trainings = planned(config, there_is)
    measured = Measured(
        tuple(Pace(step_s=2.0, validate_s=0.1, activations_s=0.5 * variant.kept) for variant in trainings.variants),
        look_s=0.01,
        stored_bytes=1000.0,
        checkpoint_bytes=0,
        checkpoint_s=1.0,
        memory_bytes=GIB,
        n_threads=4,
        computes="float32 (as asked)",
        took_s=5.0,
    )
    given = {"streamed": False, "load_s": 0.0, **changes}
    return estimate(Basis(config, room, SIDES, 470, given["streamed"], trainings, measured, given["load_s"]))


def seconds_of(found: Estimate, what: str) -> float:
    (part,) = (part for part in found.parts if what in part.what)
    return part.seconds


def test_training_takes_its_steps_its_validation_and_its_checkpoints() -> None:
    found = estimated(a_config(train={"epochs": 3, "batch_size_per_worker": 32}))
    assert seconds_of(found, "train 3 epochs of 10 steps") == pytest.approx(3 * (10 * 2.0 + 100 * 0.1 + 1.0))
    assert found.at_least_s == found.at_most_s == pytest.approx(found.seconds)


def test_all_views_of_an_epoch_are_validated_where_it_is_the_best_so_far_or_the_last() -> None:
    train = {"epochs": 4, "batch_size_per_worker": 32}
    views_s = 100 * 0.1 * 8
    for select_by, often in (("val_macro_f1", 2), ("last", 1)):
        found = estimated(a_config(train={**train, "select_by": select_by}, evaluate={"views": 8}))
        expected_s = 4 * (10 * 2.0 + 100 * 0.1 + 1.0) + often * views_s
        assert seconds_of(found, "train 4 epochs of 10 steps") == pytest.approx(expected_s)


def test_two_workers_share_steps_and_validation() -> None:
    found = estimated(a_config(train={"epochs": 1, "workers": 2}))
    assert seconds_of(found, "train 1 epoch of 5 steps") == pytest.approx(5 * 2.0 + 50 * 0.1 + 1.0)


def test_processes_are_counted_by_how_long_this_one_took_to_load() -> None:
    idle = estimated(a_config(train={"epochs": 1, "workers": 1}), some_machines(cluster=""), load_s=0.0)
    busy = estimated(a_config(train={"epochs": 1, "workers": 1}), some_machines(cluster=""), load_s=10.0)
    here = estimated(
        a_config(train={"epochs": 1, "workers": 0, "device": "cpu"}), some_machines(cluster=""), load_s=10.0
    )
    assert idle.seconds < here.seconds < busy.seconds
    assert not any("workers" in part.what for part in here.parts)


def test_early_stopping_and_a_time_budget_are_said_as_bounds() -> None:
    stops = estimated(a_config(train={"epochs": 10, "early_stopping_patience_epochs": 2}))
    assert stops.at_most_s - stops.at_least_s == pytest.approx(7 * 31.0)
    assert stops.limits == ("early stopping may end it after 3 epochs",)
    limited = estimated(a_config(train={"epochs": 10, "time_budget_min": 2}))
    assert seconds_of(limited, "train 3 epochs") == pytest.approx(93.0)
    assert limited.limits == ("train.time_budget_min=2 has room for 3 of 10 epochs",)


def test_one_epoch_is_trained_whatever_the_budget() -> None:
    assert epochs_within(a_config(train={"time_budget_min": 0.1}), [60.0, 60.0]) == 1


def test_streamed_photos_cost_a_cpu_its_time_and_a_gpu_none_that_it_does_not_wait_for() -> None:
    assert streamed_step_s(1.0, 100, 0.02, readers=4, on_gpu=False) == 1.5
    assert streamed_step_s(1.0, 100, 0.02, readers=4, on_gpu=True) == 1.0
    assert streamed_step_s(0.1, 100, 0.02, readers=4, on_gpu=True) == 0.5
    slow = estimated(a_config(train={"epochs": 1}), streamed=True)
    assert slow.seconds > estimated(a_config(train={"epochs": 1})).seconds


def test_kept_activations_are_computed_once_for_every_view() -> None:
    config = a_config(model={"weights": "none", "frozen_stages": 4}, augment={"views": 2}, train={"epochs": 5})
    _, trainings = planned(config)
    assert [(variant.n_frozen, variant.kept) for variant in trainings.variants] == [(4, True)]
    assert trainings.activations.views == 2 * SIDES.train + SIDES.val
    assert seconds_of(estimated(config), "activations") == pytest.approx(0.5 * trainings.activations.views)


def test_activations_that_find_no_room_are_not_kept_and_it_is_said_why() -> None:
    changes = {"epochs": 5, "cache_frozen_gib": 1e-6}
    config = a_config(model={"weights": "none", "frozen_stages": 4}, augment={"views": 2}, train=changes)
    _, trainings = planned(config)
    assert not trainings.variants[0].kept
    assert "cache_frozen_gib" in trainings.activations.why_not


def test_stages_that_are_freed_on_the_way_are_measured_one_by_one() -> None:
    _, trainings = planned(a_config(train={"epochs": 12, "unfreeze_every_epochs": 2}))
    assert sorted(variant.n_frozen for variant in trainings.variants) == [0, 1, 2, 3, 4, 5]
    assert len(trainings.trainings[0].variants) == 12


SPACE = {"train.learning_rate": {"loguniform": [1e-4, 1e-2]}, "model.frozen_stages": {"choice": [0, 4]}}


def test_a_sweep_measures_what_differs_in_speed_and_plans_as_many_trials_as_there_is_room_for() -> None:
    config = a_config(train={"epochs": 4}, tune={"space": SPACE, "trials": 8, "verdict_seeds": 2, "finalists": 1})
    room, trainings = planned(config)
    assert sorted(variant.n_frozen for variant in trainings.variants) == [0, 4]
    assert len(trainings.trainings) == 8
    assert room.sweep is not None
    assert room.sweep.trials.concurrent == 4
    found = estimated(config)
    assert found.at_least_s < found.seconds < found.at_most_s
    assert seconds_of(found, "finals of 16 epochs") > 0
    assert "tune.scheduler=asha" in found.limits[0]


@pytest.mark.parametrize(
    ("train", "asked", "available"),
    [
        ({"workers": 64}, "64 workers", "has 4 CPUs"),
        ({"workers": 64, "device": "cuda"}, "64 GPUs", "has 0"),
    ],
)
def test_what_cannot_be_had_is_refused_with_what_was_asked_and_what_there_is(
    train: dict[str, Any], asked: str, available: str
) -> None:
    with pytest.raises(ClusterError, match=asked) as refused:
        find_room(a_config(train=train), some_machines())
    assert available in str(refused.value)


def test_trials_that_cannot_run_side_by_side_are_refused() -> None:
    config = a_config(tune={"space": SPACE, "max_concurrent_trials": 64})
    with pytest.raises(ClusterError, match="asks for that many"):
        find_room(config, some_machines())
