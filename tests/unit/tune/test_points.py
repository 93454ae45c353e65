"""The points of a sweep: what its trials are, given the space that it searches."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import pytest

from ray_trash.config import Config, Dimension, config_from_tree, override, to_yaml
from ray_trash.config.yaml import from_yaml
from ray_trash.errors import ConfigError
from ray_trash.tune.space import as_written, n_grid_points, points, search_space
from tests.unit.tune.sweeps import config_with


def points_of(config: Config) -> tuple[dict[str, Any], ...]:
    return points(config, search_space(config))


def test_a_point_as_written_holds_the_value_of_every_searched_key() -> None:
    config = config_with(model={"hidden_layers": [64, 32]}, train={"learning_rate": 0.00012345})
    space = {
        "model.hidden_layers": Dimension(choice=([], [256])),
        "train.learning_rate": Dimension(loguniform=(1e-5, 1e-2)),
        "train.clip_gradient_norm": Dimension(choice=(None, 1.0)),
        "seed": Dimension(int=(0, 3)),
    }
    assert as_written(config, space) == {
        "model.hidden_layers": [64, 32],
        "train.learning_rate": 0.00012345,
        "train.clip_gradient_norm": None,
        "seed": 0,
    }


@pytest.mark.parametrize("search", ["random", "grid", "optuna"])
def test_the_config_as_written_comes_first(search: str) -> None:
    config = config_with(tune={"search": search, "trials": 5}, model={"dropout": 0.9})
    found = points_of(config)
    assert found[0] == as_written(config, search_space(config))
    assert len(found) == (1 if search == "optuna" else 5)


@pytest.mark.parametrize("search", ["random", "grid"])
def test_one_trial_is_the_config_as_written(search: str) -> None:
    config = config_with(tune={"search": search, "trials": 1})
    assert points_of(config) == (as_written(config, search_space(config)),)


def test_random_points_are_distinct_and_inside_the_space() -> None:
    config = config_with(
        {
            "model.dropout": {"uniform": [0.12345, 0.5]},
            "train.learning_rate": {"loguniform": [1e-5, 1e-2]},
            "train.epochs": {"int": [2, 4]},
            "train.optimizer": {"choice": ["adam", "adamw"]},
        },
        tune={"trials": 40},
    )
    _, *drawn = points_of(config)
    assert len({json.dumps(point) for point in drawn}) == 39
    assert all(0.12345 <= point["model.dropout"] <= 0.5 for point in drawn)
    assert all(1e-5 <= point["train.learning_rate"] <= 1e-2 for point in drawn)
    assert {point["train.epochs"] for point in drawn} == {2, 3, 4}
    assert {point["train.optimizer"] for point in drawn} == {"adam", "adamw"}


def test_every_order_of_magnitude_of_a_log_range_is_drawn_about_equally_often() -> None:
    config = config_with({"train.learning_rate": {"loguniform": [1e-5, 1e-2]}}, tune={"trials": 301})
    _, *drawn = points_of(config)
    decades = [math.floor(math.log10(point["train.learning_rate"])) for point in drawn]
    assert all(70 < decades.count(decade) < 130 for decade in (-5, -4, -3))


@pytest.mark.parametrize("search", ["random", "grid"])
def test_numbers_have_few_digits_so_that_the_best_config_reads_well(search: str) -> None:
    config = config_with(tune={"search": search, "trials": 20})
    for point in points_of(config)[1:]:
        for value in point.values():
            assert value == float(f"{value:.4g}")
            assert type(value) in (int, float)


@pytest.mark.parametrize("search", ["random", "grid"])
def test_points_depend_on_the_seed_and_nothing_else(search: str) -> None:
    config = config_with(tune={"search": search, "trials": 8})
    assert points_of(config) == points_of(config)
    assert points_of(config)[1:] != points_of(override(config, {"seed": 1}))[1:]


def test_more_trials_only_add_random_points() -> None:
    few, many = (points_of(config_with(tune={"trials": trials})) for trials in (5, 12))
    assert many[:5] == few


def test_a_small_space_gives_fewer_random_points_than_trials() -> None:
    config = config_with(
        {"model.hidden_layers": {"choice": [[], [256]]}, "train.epochs": {"int": [1, 2]}}, tune={"trials": 50}
    )
    first, *drawn = points_of(config)
    assert first == {"model.hidden_layers": [], "train.epochs": 30}
    assert sorted(json.dumps(point) for point in drawn) == sorted(
        json.dumps({"model.hidden_layers": layers, "train.epochs": epochs})
        for layers, epochs in itertools.product([[], [256]], [1, 2])
    )


@pytest.mark.parametrize("search", ["random", "grid"])
def test_a_value_spelled_in_two_ways_is_one_point(search: str) -> None:
    config = config_with(tune={"search": search})
    space = {"model.dropout": Dimension(choice=(0, 0.0, "0.5", 0.5))}
    assert points(config, space) == ({"model.dropout": 0.0}, {"model.dropout": 0.5})


def test_a_grid_takes_three_values_of_a_range_and_every_choice() -> None:
    config = config_with(
        {
            "model.dropout": {"uniform": [0.1, 0.5]},
            "train.learning_rate": {"loguniform": [1e-5, 1e-3]},
            "train.epochs": {"int": [3, 8]},
            "train.optimizer": {"choice": ["adam", "adamw"]},
        },
        tune={"search": "grid", "trials": 100},
    )
    _, *grid = points_of(config)
    assert [tuple(point.values()) for point in grid] == list(
        itertools.product([0.1, 0.3, 0.5], [1e-5, 1e-4, 1e-3], [3, 5, 8], ["adam", "adamw"])
    )


def test_a_grid_does_not_repeat_the_config_as_written() -> None:
    config = config_with({"train.epochs": {"choice": [10, 30, 50]}}, tune={"search": "grid", "trials": 3})
    first, *grid = points_of(config)
    assert first == {"train.epochs": 30}
    assert sorted(point["train.epochs"] for point in grid) == [10, 50]


def test_the_values_of_a_short_range_are_distinct() -> None:
    space = {"train.epochs": Dimension(int=(1, 2)), "model.dropout": Dimension(uniform=(0.123411, 0.123412))}
    assert n_grid_points(space) == 2 * 2


@pytest.mark.parametrize("trials", [8, 9, 10])
def test_a_grid_larger_than_the_trials_is_sampled_without_repeats(trials: int) -> None:
    config = config_with(
        {"model.dropout": {"uniform": [0.1, 0.5]}, "train.weight_decay": {"loguniform": [1e-4, 1e-2]}},
        tune={"search": "grid", "trials": trials},
    )
    first, *grid = points_of(config)
    assert first == {"model.dropout": 0.0, "train.weight_decay": 0.0}
    assert len({json.dumps(point) for point in grid}) == len(grid) == trials - 1


def test_a_grid_of_very_many_points_is_sampled_all_over() -> None:
    space = {
        "model.dropout": Dimension(uniform=(0.1, 0.5)),
        "seed": Dimension(choice=tuple(range(1000))),
        "train.epochs": Dimension(choice=tuple(range(1, 1001))),
        "train.batch_size_per_worker": Dimension(choice=tuple(range(1, 1001))),
    }
    assert n_grid_points(space) == 3 * 1000**3
    _, *grid = points(config_with(tune={"search": "grid", "trials": 12}), space)
    assert all(len({point[key] for point in grid}) > 1 for key in space)


@pytest.mark.parametrize("search", ["random", "grid"])
def test_a_combination_that_the_config_refuses_is_named(search: str) -> None:
    config = config_with(
        {"train.schedule": {"choice": ["cosine", "constant"]}, "train.warmup_steps": {"choice": [10]}},
        tune={"search": search},
    )
    with pytest.raises(ConfigError) as caught:
        points_of(config)
    assert "the point train.schedule='constant', train.warmup_steps=10: train.warmup_steps has no effect here" in str(
        caught.value
    )


def test_every_point_makes_a_config_that_can_be_written_and_read_back() -> None:
    config = config_with(tune={"trials": 10}, augment={"preset": "strong"})
    for point in points_of(config):
        changed = override(config, point)
        assert config_from_tree(from_yaml(to_yaml(changed), "config")) == changed
