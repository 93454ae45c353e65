"""The search space of a sweep: what may be searched."""

from __future__ import annotations

import math
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import pytest

from ray_trash.config import Dimension, known_keys, override
from ray_trash.errors import ConfigError
from ray_trash.tune.space import (
    FIXED,
    as_written,
    default_space,
    optuna_space,
    require_optuna,
    search_space,
)
from tests.unit.tune.sweeps import config_with


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
