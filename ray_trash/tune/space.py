"""From the search space of a sweep to the points of its trials: a value for every searched key, for `override`."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from operator import getitem
from typing import Any

import numpy as np

from ray_trash.config import Config, Dimension, known_keys, override, unmet_needs
from ray_trash.errors import ConfigError

_FIXED_BY_REASON = {
    "it names the sweep's folder": "name",
    "all trials are kept in one place": "storage",
    "it is about answering, and changes no training": "serve.",
    "photos are catalogued, split and decoded once for the whole sweep": "data. image.stored_short_side_px",
    "weights are loaded once for the whole sweep": "model.weights model.architecture",
    "all trials get the same resources": "train.workers train.cpus_per_worker train.device train.wait_for_workers_s",
    "trials are ranked by it": "train.select_by",
    "all trials get the same time": "train.time_budget_min",
    "all trials share one cache": "train.cache_frozen train.cache_frozen_gib train.cache_frozen_dir",
    "it changes no result of a training": "train.keep_checkpoints train.max_worker_failures evaluate.",
    "all trials are recorded in one place": "train.mlflow_tracking_uri",
    "it describes the sweep itself": "tune.",
}
FIXED = {key: reason for reason, keys in _FIXED_BY_REASON.items() for key in keys.split()}
"""Why a key cannot be searched; a name that ends in a dot stands for every key of that section."""

_NOT_FOUND_IN_SWEEPS = (
    "a sweep compares rates that are known; give a number, and search around it (tune.space.train.learning_rate)"
)

OUTSIDE = -0.14
_FROZEN_STAGES = (2, 3, 4, 5)
_SIGNIFICANT_DIGITS = 4
_MOST_REPEATS = 1000
"""Draws in a row that repeat an earlier point before the space counts as used up."""
_INSIDE = (3 - math.sqrt(5)) / 2
"""An irrational share: between two whole numbers it never lands on a third."""


def search_space(config: Config) -> dict[str, Dimension]:
    """Return the space of the config after checking it, or the default one where the config has none.

    Choices are as the config reads them, each once. A `ConfigError` names every key that is unknown, fixed or without
    effect, and every value that is refused.
    """
    if config.train.learning_rate == "auto":
        raise ConfigError(f"train.learning_rate=auto: {_NOT_FOUND_IN_SWEEPS}")
    if config.tune.space is None:
        return default_space(config)
    problems = [why for key, dimension in config.tune.space.items() for why in _problems(config, key, dimension)]
    if problems:
        raise ConfigError("; ".join(dict.fromkeys(problems)))
    return {key: _as_read(config, key, dimension) for key, dimension in config.tune.space.items()}


def default_space(config: Config) -> dict[str, Dimension]:
    """Return what is searched where the config names no space: the usual suspects, of those that have an effect."""
    rate = config.train.learning_rate
    assert rate != "auto", "refused by search_space"
    stages = sorted({*_FROZEN_STAGES, config.model.frozen_stages})
    candidates = {
        "model.dropout": Dimension(uniform=(0.0, 0.6)),
        "train.learning_rate": Dimension(loguniform=(_rounded(rate / 10), _rounded(rate * 10))),
        "model.frozen_stages": Dimension(
            choice=tuple(count for count in stages if not _refusal(config, "model.frozen_stages", count))
        ),
        "augment.crop_area_min": Dimension(uniform=(0.3, 1.0)),
        "augment.colour_strength": Dimension(uniform=(0.0, 0.8)),
        "train.weight_decay": Dimension(loguniform=(1e-4, 0.3)),
    }
    inert = unmet_needs(config)
    return {key: dimension for key, dimension in candidates.items() if key not in inert}


def as_written(config: Config, space: Mapping[str, Dimension]) -> dict[str, Any]:
    """Return the config's own value of every searched key, which may lie outside the space; sequences are lists."""
    tree: Any = config.model_dump(mode="json")
    return {key: reduce(getitem, key.split("."), tree) for key in space}


def points(config: Config, space: Mapping[str, Dimension]) -> tuple[dict[str, Any], ...]:
    """Choose at most `tune.trials` points to try, the config as written first; fewer where the space has fewer.

    Each is there once and accepted by the config; a `ConfigError` names the first that is not. With
    `tune.search=optuna` there is that first one alone: Optuna chooses the others as results come in.
    """
    candidates: Iterable[dict[str, Any]] = ()
    if config.tune.search == "random":
        candidates = _random_points(config, space)
    elif config.tune.search == "grid":
        candidates = _grid_points(config, space)
    chosen = [as_written(config, space)]
    seen = {_fingerprint(chosen[0])}
    repeats = 0
    for candidate in candidates:
        if len(chosen) == config.tune.trials or repeats == _MOST_REPEATS:
            break
        repeats += 1
        if _fingerprint(candidate) in seen:
            continue
        # The config may read two spellings as one value, such as 1 and 1.0.
        point = as_written(_overridden(config, candidate), space)
        if _fingerprint(point) not in seen:
            chosen.append(point)
            repeats = 0
        seen |= {_fingerprint(candidate), _fingerprint(point)}
    return tuple(chosen)


def n_grid_points(space: Mapping[str, Dimension]) -> int:
    """Count the points of a full grid, in which a range stands for at most three values."""
    return math.prod(len(grid_values(dimension)) for dimension in space.values())


def require_optuna() -> None:
    """Refuse to go on where Optuna is not installed."""
    if importlib.util.find_spec("optuna") is None:
        raise ConfigError("tune.search=optuna: Optuna is not installed; pip install 'ray-trash[optuna]'")


def optuna_space(space: Mapping[str, Dimension]) -> dict[str, Any]:
    """Return the space in Ray Tune's terms, which its Optuna search reads."""
    from ray import tune

    def domain(dimension: Dimension) -> Any:
        if dimension.choice is not None:
            return tune.choice(list(dimension.choice))
        if dimension.int is not None:
            return tune.randint(dimension.int[0], dimension.int[1] + 1)
        return tune.loguniform(*dimension.loguniform) if dimension.loguniform else tune.uniform(*_bounds(dimension))

    return {key: domain(dimension) for key, dimension in space.items()}


def _problems(config: Config, key: str, dimension: Dimension) -> list[str]:
    reason = FIXED.get(key) or FIXED.get(f"{key.partition('.')[0]}.")
    if reason and key in known_keys():
        return [f"tune.space.{key} cannot be searched: {reason}"]
    interval = dimension.uniform or dimension.loguniform
    values = dimension.choice or interval or dimension.int or ()
    if key == "train.learning_rate" and "auto" in (dimension.choice or ()):
        return [f"tune.space.{key}=auto: {_NOT_FOUND_IN_SWEEPS}"]
    refused = [message for message in (_refusal(config, key, value) for value in values) if message]
    if not refused and interval is not None:
        low, high = interval
        if _refusal(config, key, low + _INSIDE * (high - low)):
            return [f"tune.space.{key} takes whole numbers only; search it with int or choice"]
    return refused


def _refusal(config: Config, key: str, value: Any) -> str:
    try:
        override(config, {key: value})
    except ConfigError as error:
        message = str(error).removeprefix("override: ")
        if key not in known_keys():
            return f"tune.space: {message}"
        return f"tune.space.{message}" if message.startswith(key) else f"tune.space.{key}={value!r}: {message}"
    return ""


def _as_read(config: Config, key: str, dimension: Dimension) -> Dimension:
    if dimension.choice is None:
        return dimension
    space = {key: dimension}
    values = [as_written(override(config, {key: value}), space)[key] for value in dimension.choice]
    return Dimension(choice=tuple(_distinct(values)))


def _overridden(config: Config, point: Mapping[str, Any]) -> Config:
    try:
        return override(config, point)
    except ConfigError as error:
        named = ", ".join(f"{key}={value!r}" for key, value in point.items())
        message = str(error).removeprefix("override: ")
        raise ConfigError(f"tune.space: the config refuses the point {named}: {message}") from error


def _random_points(config: Config, space: Mapping[str, Dimension]) -> Iterator[dict[str, Any]]:
    random = np.random.default_rng(config.seed)
    while True:
        yield {key: _draw(random, dimension) for key, dimension in space.items()}


def _draw(random: np.random.Generator, dimension: Dimension) -> Any:
    if dimension.choice is not None:
        return dimension.choice[int(random.integers(len(dimension.choice)))]
    if dimension.int is not None:
        return int(random.integers(*dimension.int, endpoint=True))
    low, high = bounds = _bounds(dimension)
    if dimension.loguniform is not None:
        return _within(bounds, math.exp(random.uniform(math.log(low), math.log(high))))
    return _within(bounds, float(random.uniform(low, high)))


def _grid_points(config: Config, space: Mapping[str, Dimension]) -> Iterator[dict[str, Any]]:
    axes = [grid_values(dimension) for dimension in space.values()]
    # The product of many keys does not fit in memory; the numbers of the points drawn from it do.
    count, n_wanted = n_grid_points(space), config.tune.trials
    numbers = range(count) if count < n_wanted else np.random.default_rng(config.seed).choice(count, n_wanted, False)
    for number in numbers:
        at = np.unravel_index(number, [len(values) for values in axes])
        yield {key: values[i] for key, values, i in zip(space, axes, at, strict=True)}


def grid_values(dimension: Dimension) -> list[Any]:
    """Return every choice, or the ends and the middle of a range."""
    if dimension.choice is not None:
        return _distinct(dimension.choice)
    if dimension.int is not None:
        low, high = dimension.int
        return _distinct([low, (low + high) // 2, high])
    start, end = _bounds(dimension)
    middle = math.sqrt(start) * math.sqrt(end) if dimension.loguniform is not None else start / 2 + end / 2
    return _distinct([start, _within((start, end), middle), end])


def height_in(dimension: Dimension, value: Any) -> float:
    """Place a value on an axis of its key, 0..1; `OUTSIDE` where it is not in the space, as one as written may be."""
    marks = grid_values(dimension)
    if dimension.choice is not None:
        return marks.index(value) / max(1, len(marks) - 1) if value in marks else OUTSIDE
    if not isinstance(value, int | float) or isinstance(value, bool) or not marks[0] <= value <= marks[-1]:
        return OUTSIDE
    scale = math.log if dimension.loguniform is not None else float
    return (scale(value) - scale(marks[0])) / (scale(marks[-1]) - scale(marks[0]))


def _bounds(dimension: Dimension) -> tuple[float, float]:
    bounds = dimension.loguniform or dimension.uniform
    assert bounds is not None
    return bounds


def _within(bounds: tuple[float, float], value: float) -> float:
    # Rounding may step over a bound that has more digits.
    return min(max(_rounded(value), bounds[0]), bounds[1])


def _rounded(value: float) -> float:
    return float(f"{value:.{_SIGNIFICANT_DIGITS}g}")


def _distinct(values: Iterable[Any]) -> list[Any]:
    return list({_fingerprint(value): value for value in values}.values())


def _fingerprint(value: Any) -> str:
    # Values may be lists, which cannot be members of a set.
    return json.dumps(value, sort_keys=True)
