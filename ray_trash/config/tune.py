"""The settings of a sweep: which keys are searched, where, and how trials are stopped and judged."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from ray_trash.config.section import Needs, Section

_STOPPED_EARLY = Needs("tune.scheduler=asha or median", lambda config: config.tune.scheduler != "none")
_HALVED = Needs("tune.scheduler=asha", lambda config: config.tune.scheduler == "asha")
_COMPARED = Needs("tune.verdict_seeds above 0", lambda config: config.tune.verdict_seeds > 0)

Value = bool | int | float | str | list[Any] | None
"""A value that a key of the config can take, as YAML gives it."""
Range = tuple[float, float]
Whole = Annotated[int, Field(strict=True)]


class Dimension(Section):
    """Where one key is searched: exactly one of four kinds."""

    choice: Annotated[tuple[Value, ...], Field(min_length=1)] | None = None
    """One of these values."""
    uniform: Range | None = None
    """Any number between two."""
    loguniform: Range | None = None
    """Any number between two above 0, every order of magnitude equally often."""
    int: tuple[Whole, Whole] | None = None
    """Any whole number from one to another, both included."""

    @model_validator(mode="after")
    def _is_one_range(self) -> Dimension:
        given = [kind for kind in ("choice", "uniform", "loguniform", "int") if getattr(self, kind) is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of choice, uniform, loguniform and int")
        bounds = self.uniform or self.loguniform or self.int
        if bounds is not None and not bounds[0] < bounds[1]:
            raise ValueError(f"{given[0]}: the first bound must be below the second")
        if self.loguniform is not None and self.loguniform[0] <= 0:
            raise ValueError("loguniform: bounds must be above 0")
        return self

    @model_serializer(mode="wrap")
    def _as_written(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {kind: value for kind, value in serialize(self).items() if value is not None}


class TuneConfig(Section):
    """A sweep: many trainings of one config with some keys changed, the losing ones stopped early."""

    space: Annotated[dict[str, Dimension], Field(min_length=1)] | None = None
    """Key to where it is searched, such as `model.dropout: {uniform: [0, 0.5]}`. Default: `tune` searches dropout,
    learning rate, frozen stages, augmentation strength and weight decay around the config, and `run` does not."""
    trials: int = Field(16, ge=1)
    """How many trainings, the config as written among them; `grid` takes all its points where these are fewer."""
    search: Literal["random", "grid", "optuna"] = "random"
    """How points are chosen: at random, every combination (ranges as three values), or by Optuna's TPE."""
    scheduler: Literal["asha", "median", "none"] = "asha"
    """Who stops losing trials: asynchronous successive halving, the median rule, or nobody."""
    grace_epochs: Annotated[int, _STOPPED_EARLY] = Field(1, ge=1)
    """No trial is stopped before so many epochs."""
    reduction_factor: Annotated[int, _HALVED] = Field(4, ge=2)
    """ASHA goes on with one in so many, at so many times the epochs. Source of the default: Li et al., 2020."""
    max_concurrent_trials: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"
    """Trials trained at the same time; `auto` is what the cluster has room for."""
    finalists: Annotated[int, _COMPARED] = Field(2, ge=1)
    """How many of the best trials are compared with the config as written."""
    verdict_seeds: int = Field(3, ge=0)
    """Seeds each finalist and the config as written are trained with once more; 0 takes the best trial at its word."""
