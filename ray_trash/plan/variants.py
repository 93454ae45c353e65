"""Which different trainings a run or a sweep consists of, as far as that matters to their speed and their bytes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from ray_trash.config import Config, by_dotted_key, override
from ray_trash.dataset.sampler import steps_in_epoch
from ray_trash.plan.bench import Variant
from ray_trash.plan.room import Room, SweepRoom
from ray_trash.plan.sides import SideCounts
from ray_trash.train.frozen.compute import GIB, activation_sets, lack_of_room, n_views, pays_to_keep
from ray_trash.train.schedule import frozen_stages_at
from ray_trash.tune.activations import fitting_stages, shared_stages

MOST_MEASURED = 6
"""Variants that are measured, the commonest; the others are taken to be as fast as these are on average."""
_CHANGE_SPEED = (
    "image.size_px",
    "augment.preset",
    "augment.size_px",
    "model.architecture",
    "model.hidden_layers",
    "train.accumulate_batches",
    "train.optimizer",
    "train.precision",
    "train.ema_decay",
    "evaluate.forward_batch_photos",
)


@dataclass(frozen=True)
class Training:
    """One training: its config, the steps of an epoch, and the variant of each of its epochs, by number."""

    config: Config
    steps: int
    variants: tuple[int, ...]


@dataclass(frozen=True)
class Activations:
    """What is kept of the frozen stages: bytes on one machine, and views of photos to compute; or why nothing is."""

    n_bytes: int = 0
    views: int = 0
    why_not: str = ""


@dataclass(frozen=True)
class Trainings:
    """All trainings, the config as written first, and the variants that are measured."""

    trainings: tuple[Training, ...]
    variants: tuple[Variant, ...]
    activations: Activations


def trainings_of(config: Config, room: Room, sides: SideCounts, dtype: torch.dtype) -> Trainings:
    """List what is trained, in so many trials where it is a sweep, and decide which activations are kept."""
    sweep = room.sweep
    kept, activations = (
        _kept_by_run(config, sides, dtype) if sweep is None else _kept_by_sweep(config, sweep, sides, dtype)
    )
    configs = [config] if sweep is None else [override(config, point.params) for point in sweep.points]
    if sweep is not None:
        configs += [config] * (sweep.n_trials - len(configs))  # what Optuna will choose is not known yet
    known: dict[str, tuple[int, Variant]] = {}
    uses: Counter[int] = Counter()
    trainings = []
    for one in configs:
        steps, batch_photos = _steps(one, sides.train, room.workers.workers)
        numbers = []
        for epoch in range(one.train.epochs):
            n_frozen = frozen_stages_at(
                epoch,
                frozen_stages=one.model.frozen_stages,
                unfreeze_every_epochs=one.train.unfreeze_every_epochs,
            )
            variant = Variant(one, n_frozen, n_frozen in kept, batch_photos)
            number, _ = known.setdefault(_key(variant), (len(known), variant))
            numbers.append(number)
            uses[number] += 1
        trainings.append(Training(one, steps, tuple(numbers)))
    measured = [number for number, _ in uses.most_common(MOST_MEASURED)]
    variants = dict(known.values())
    renumbered = {number: measured.index(number) for number in measured}
    return Trainings(
        tuple(replace(one, variants=tuple(renumbered.get(n, -1) for n in one.variants)) for one in trainings),
        tuple(variants[number] for number in measured),
        activations,
    )


def _steps(config: Config, n_train: int, workers: int) -> tuple[int, int]:
    """Return the steps of an epoch, and the photos of one worker's batch."""
    train = config.train
    size = train.batch_size_per_worker * train.accumulate_batches * workers
    steps = steps_in_epoch(n_train, size, train.steps_per_epoch, workers=workers)
    draws = n_train if train.steps_per_epoch is None else steps * size
    return steps, max(1, round(draws / (steps * workers * train.accumulate_batches)))


def _key(variant: Variant) -> str:
    flat: Mapping[str, Any] = by_dotted_key(variant.config.model_dump(mode="json"))
    own = [flat[key] for key in _CHANGE_SPEED]
    return json.dumps([own, variant.n_frozen, variant.kept, variant.batch_photos])


def _kept_by_run(config: Config, sides: SideCounts, dtype: torch.dtype) -> tuple[frozenset[int], Activations]:
    n_frozen = config.model.frozen_stages
    if not pays_to_keep(config):
        return frozenset(), Activations()
    n_bytes = _bytes(config, n_frozen, sides, dtype)
    if obstacle := lack_of_room(config, n_bytes, missing=True):
        return frozenset(), Activations(why_not=obstacle)
    return frozenset({n_frozen}), Activations(n_bytes, _views(config, sides))


def _kept_by_sweep(
    config: Config, sweep: SweepRoom, sides: SideCounts, dtype: torch.dtype
) -> tuple[frozenset[int], Activations]:
    wanted = shared_stages(config, sweep.points)
    if wanted is None:
        return frozenset(), Activations(
            why_not="trials differ in what is below the frozen stages, each sees to its own"
        )
    sizes = {n: _bytes(one, n, sides, dtype) for n, one in wanted.items()}
    fitting = fitting_stages(sizes, config.train.cache_frozen_gib * GIB)
    if not fitting:
        why = "they do not fit train.cache_frozen_gib" if wanted else ""
        return frozenset(), Activations(why_not=why)
    return frozenset(fitting), Activations(sum(sizes[n] for n in fitting), _views(wanted[max(wanted)], sides))


def _bytes(config: Config, n_frozen: int, sides: SideCounts, dtype: torch.dtype) -> int:
    sets = activation_sets(config, n_frozen, n_train=sides.train, n_val=sides.val, dtype=dtype)
    return sum(one.n_bytes for one in sets)


def _views(config: Config, sides: SideCounts) -> int:
    return sides.train * n_views(config) + sides.val
