"""The search space of a sweep: what may be searched, and the points that come of it."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import pytest

from ray_trash.config import Config, Dimension, config_from_tree, known_keys, override, to_yaml
from ray_trash.config.yaml import from_yaml
from ray_trash.errors import ConfigError
from ray_trash.tune.space import (
    FIXED,
    as_written,
    default_space,
    n_grid_points,
    optuna_space,
    points,
    require_optuna,
    search_space,
)


def config_with(space: dict[str, Any] | None = None, **tree: Any) -> Config:
    tune = {**tree.pop("tune", {}), **({"space": space} if space is not None else {})}
    return config_from_tree({"name": "a", "data": {"root": "photos"}, "tune": tune, **tree})


def points_of(config: Config) -> tuple[dict[str, Any], ...]:
    return points(config, search_space(config))


def test_every_fixed_key_exists() -> None:
    known = known_keys()
    for name in FIXED:
        assert [key for key in known if key == name or (name.endswith(".") and key.startswith(name))], name


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (
            {"train.learning_rat": {"uniform": [0.1, 1]}},
            "tune.space: unknown key train.learning_rat, did you mean train.learning_rate?",
        ),
        ({"train": {"choice": [1]}}, "unknown key train"),
        ({"name": {"choice": ["b"]}}, "tune.space.name cannot be searched: it names the sweep's folder"),
        (
            {"data.val_fraction": {"uniform": [0.1, 0.2]}},
            "tune.space.data.val_fraction cannot be searched: photos are catalogued",
        ),
        ({"tune.trials": {"int": [1, 2]}}, "tune.space.tune.trials cannot be searched: it describes the sweep itself"),
        ({"evaluate.views": {"choice": [1, 8]}}, "tune.space.evaluate.views cannot be searched"),
        (
            {"model.dropout": {"uniform": [0, 1]}},
            "tune.space.model.dropout=1.0: input should be less than 1",
        ),
        (
            {"model.dropout": {"uniform": [-0.5, 0.5]}},
            "tune.space.model.dropout=-0.5: input should be greater than or equal to 0",
        ),
        (
            {"model.frozen_stages": {"choice": [2, 6]}},
            "tune.space.model.frozen_stages=6: input should be less than or equal to 5",
        ),
        ({"train.optimizer": {"choice": ["adam", "lion"]}}, "tune.space.train.optimizer='lion'"),
        (
            {"train.momentum": {"uniform": [0.8, 0.9]}},
            "tune.space.train.momentum has no effect here, it needs train.optimizer=sgd",
        ),
        (
            {"train.epochs": {"uniform": [0, 4]}},
            "tune.space.train.epochs=0.0: input should be greater than or equal to 1",
        ),
        (
            {"train.epochs": {"uniform": [2, 4]}},
            "tune.space.train.epochs takes whole numbers only; search it with int or choice",
        ),
        (
            {"train.learning_rate": {"loguniform": [1e-4, math.inf]}},
            "tune.space.train.learning_rate.loguniform.1=inf: input should be a finite number",
        ),
    ],
)
def test_a_space_that_cannot_be_searched_is_refused_in_one_line_that_names_the_key(
    space: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        search_space(config_with(space))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_rule_between_keys_names_the_searched_one() -> None:
    config = config_with({"model.frozen_stages": {"choice": [2, 5]}}, train={"unfreeze_every_epochs": 1})
    with pytest.raises(ConfigError, match=r"^tune\.space\.model\.frozen_stages=5: train\.unfreeze_every_epochs"):
        search_space(config)


def test_all_mistakes_of_a_space_are_named_together_and_each_once() -> None:
    space = {
        "train.momentum": {"uniform": [0.8, 0.9]},
        "train.workers": {"int": [1, 2]},
        "model.dropout": {"choice": [0.5, 2]},
    }
    with pytest.raises(ConfigError) as caught:
        search_space(config_with(space))
    message = str(caught.value)
    assert [message.count(key) for key in ("train.momentum", "train.workers", "model.dropout=2")] == [1, 1, 1]


@pytest.mark.parametrize(
    "key", [key for key in known_keys() if not any(key == name or key.startswith(name) for name in FIXED)]
)
def test_every_other_key_that_has_an_effect_can_be_searched(key: str) -> None:
    config = config_with(
        augment={"preset": "strong"},
        train={"optimizer": "sgd", "schedule": "cosine", "early_stopping_patience_epochs": 3},
    )
    if key.startswith("train.plateau"):
        config = override(config, {"train.schedule": "plateau"})
    own = as_written(config, {key: Dimension(choice=(0,))})[key]
    config = override(config, {"tune.space": {key: {"choice": [own]}}})
    assert search_space(config) == {key: Dimension(choice=(own,))}


def test_choices_are_read_as_the_config_reads_them_and_repeats_are_dropped() -> None:
    space = {"train.learning_rate": {"choice": ["1e-3", 0.001, 1]}}
    assert search_space(config_with(space))["train.learning_rate"].choice == (0.001, 1.0)


def test_a_sweep_compares_rates_that_are_known() -> None:
    with pytest.raises(ConfigError, match=r"train\.learning_rate=auto: a sweep compares rates that are known"):
        search_space(config_with(train={"learning_rate": "auto"}))
    with pytest.raises(ConfigError, match=r"tune\.space\.train\.learning_rate=auto: a sweep"):
        search_space(config_with({"train.learning_rate": {"choice": ["auto", 1e-3]}}))


def test_a_config_without_a_space_gets_the_default_around_itself() -> None:
    config = config_with(train={"learning_rate": 3e-4}, model={"frozen_stages": 1})
    assert search_space(config) == {
        "model.dropout": Dimension(uniform=(0.0, 0.6)),
        "train.learning_rate": Dimension(loguniform=(3e-5, 3e-3)),
        "model.frozen_stages": Dimension(choice=(1, 2, 3, 4, 5)),
        "augment.crop_area_min": Dimension(uniform=(0.3, 1.0)),
        "train.weight_decay": Dimension(loguniform=(1e-4, 0.3)),
    }


def test_the_default_space_follows_the_augmentation() -> None:
    augmented = {
        preset: [key for key in default_space(config_with(augment={"preset": preset})) if key.startswith("augment.")]
        for preset in ("none", "seed", "dihedral", "strong")
    }
    assert augmented == {
        "none": [],
        "seed": [],
        "dihedral": ["augment.crop_area_min"],
        "strong": ["augment.crop_area_min", "augment.colour_strength"],
    }


def test_the_default_space_keeps_only_what_the_config_accepts() -> None:
    config = config_with(train={"unfreeze_every_epochs": 2})
    assert default_space(config)["model.frozen_stages"].choice == (0, 2, 3, 4)


@pytest.mark.parametrize("preset", ["none", "seed", "dihedral", "strong"])
@pytest.mark.parametrize("frozen_stages", range(6))
def test_the_default_space_passes_its_own_check(preset: str, frozen_stages: int) -> None:
    config = config_with(augment={"preset": preset}, model={"frozen_stages": frozen_stages})
    space = default_space(config)
    written = {key: dimension.model_dump() for key, dimension in space.items()}
    assert search_space(override(config, {"tune.space": written})) == space


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


def test_a_missing_optuna_is_an_error_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"pip install 'ray-trash\[optuna\]'"):
        require_optuna()


def test_an_installed_optuna_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("optuna")
    module.__spec__ = ModuleSpec("optuna", None)
    monkeypatch.setitem(sys.modules, "optuna", module)
    require_optuna()


def test_optuna_searches_what_the_space_says() -> None:
    # Imports ray.tune, which takes seconds, but starts no cluster.
    domains = optuna_space(
        {
            "model.hidden_layers": Dimension(choice=([], [256])),
            "model.dropout": Dimension(uniform=(0.0, 0.6)),
            "train.learning_rate": Dimension(loguniform=(1e-5, 1e-3)),
            "train.epochs": Dimension(int=(3, 5)),
        }
    )
    assert domains["model.hidden_layers"].categories == [[], [256]]
    assert {domains["train.epochs"].sample() for _ in range(100)} == {3, 4, 5}
    assert all(0 <= domains["model.dropout"].sample() <= 0.6 for _ in range(10))
    assert all(1e-5 <= domains["train.learning_rate"].sample() <= 1e-3 for _ in range(10))


def test_choosing_points_needs_neither_ray_nor_torch() -> None:
    code = "import sys, ray_trash.tune.space; print({'ray', 'torch', 'optuna'} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "set()"
