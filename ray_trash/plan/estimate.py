"""The parts of a run and their seconds, with the least and the most it may take."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import astuple, dataclass

from ray_trash.config import Config
from ray_trash.plan.bench import Pace
from ray_trash.plan.measure import Measured
from ray_trash.plan.room import Room
from ray_trash.plan.sides import SideCounts
from ray_trash.plan.times import (
    EVALUATE_LOADS,
    MASKED_PASSES,
    PROCESS_LOADS,
    RAY_LOADS,
    TRAIN_LOADS,
    TRIAL_LOADS,
    UNKNOWN_PHOTOS,
    EpochTime,
    Part,
    epochs_within,
    evaluation_s,
    fewest_epochs,
    reading_s,
    streamed_step_s,
    written_s,
)
from ray_trash.plan.variants import Training, Trainings
from ray_trash.terminal.text import counted
from ray_trash.train.learning_rate import RANGE_STEPS
from ray_trash.tune.forecast import Forecast, TrialPace, forecast, to_their_end
from ray_trash.tune.trials import metric_of


@dataclass(frozen=True)
class Basis:
    """What an estimate goes by: the config, what there is, what is trained on what, and what was measured.

    `load_s` is how long this process took to load torch and Ray.
    """

    config: Config
    room: Room
    sides: SideCounts
    n_photos: int
    streamed: bool
    trainings: Trainings
    measured: Measured
    load_s: float


@dataclass(frozen=True)
class Estimate:
    """What a run takes, part by part, and between which bounds; `limits` say in words what makes the difference."""

    parts: tuple[Part, ...]
    at_least_s: float
    at_most_s: float
    epoch: EpochTime
    epochs: int
    limits: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """All parts."""
        return sum(part.seconds for part in self.parts)


def estimate(basis: Basis) -> Estimate:
    """Put the parts together."""
    measured, room = basis.measured, basis.room
    cpus = int(room.inventory.resources["CPU"])
    before = [Part("load the libraries", basis.load_s)]
    if not room.inventory.cluster:
        before.append(Part("start Ray", RAY_LOADS * basis.load_s))
    before.append(
        Part(
            "read, compare and split photos",
            reading_s(basis.n_photos, measured.look_s, at_once=cpus, load_s=basis.load_s),
        )
    )
    views, paces = basis.trainings.activations.views, measured.paces
    if views:
        each_s = max(pace.activations_s for pace in paces)
        # In a sweep one process computes them for all.
        at_once = 1 if room.sweep is not None else room.workers.workers
        before.append(Part("activations of the frozen stages", views * each_s / at_once))
    training, least_s, most_s, epochs, limits = _run(basis) if room.sweep is None else _sweep(basis)
    n_evaluated = basis.sides.test or basis.sides.val
    passes = (MASKED_PASSES * n_evaluated + UNKNOWN_PHOTOS) * basis.config.evaluate.views
    scored_s = evaluation_s(passes, statistics.fmean(pace.validate_s for pace in paces), measured.computes)
    reread_s = basis.n_photos * measured.look_s / max(1, cpus)
    after = [Part("evaluate (the command `run` only)", EVALUATE_LOADS * basis.load_s + reread_s + scored_s)]
    parts = (*before, *training, *after)
    trained_s = sum(part.seconds for part in training)
    rest_s = sum(part.seconds for part in parts) - trained_s
    first = epoch_times(basis, basis.trainings.trainings[0])[0]
    return Estimate(parts, rest_s + least_s, rest_s + most_s, first, epochs, limits)


def epoch_times(basis: Basis, training: Training) -> list[EpochTime]:
    """Return the time of each epoch of a training, if nothing cuts it short."""
    paces = basis.measured.paces
    mean = Pace(*(statistics.fmean(values) for values in zip(*map(astuple, paces), strict=True)))
    return [_epoch(basis, training, paces[number] if number >= 0 else mean) for number in training.variants]


def _epoch(basis: Basis, training: Training, pace: Pace) -> EpochTime:
    measured, room, config = basis.measured, basis.room, training.config
    workers, step_s, validate_s = room.workers.workers, pace.step_s, pace.validate_s
    if basis.streamed and not pace.activations_s:
        readers = room.inventory.resources["CPU"] / (room.sweep.trials.concurrent if room.sweep else 1)
        on_gpu, photos = room.workers.device == "cuda", basis.sides.train / training.steps
        step_s = streamed_step_s(step_s, photos, measured.look_s, readers=readers, on_gpu=on_gpu)
        validate_s = streamed_step_s(validate_s, 1, measured.look_s, readers=readers, on_gpu=on_gpu)
    # An epoch that is the best so far is validated in all its views too: about every second one is, by `last` one is.
    share = 1 / len(training.variants) if config.train.select_by == "last" else 0.5
    views = 1 if config.evaluate.views == 1 else 1 + share * config.evaluate.views
    validation_s = views * validate_s * -(-basis.sides.val // workers)
    return EpochTime(training.steps * step_s, validation_s, written_s(measured.checkpoint_s, measured.checkpoint_bytes))


def _run(basis: Basis) -> tuple[list[Part], float, float, int, tuple[str, ...]]:
    config, training = basis.config, basis.trainings.trainings[0]
    times_of = epoch_times(basis, training)
    times = [epoch.seconds for epoch in times_of]
    n = epochs_within(config, times)
    fewest = fewest_epochs(config, n)
    limits = []
    if config.train.time_budget_min is not None:
        limits.append(f"train.time_budget_min={config.train.time_budget_min:g} has room for {n} of {len(times)} epochs")
    if fewest < n:
        limits.append(f"early stopping may end it after {counted(fewest, 'epoch')}")
    loads = 0.0 if basis.room.workers.in_process else TRAIN_LOADS + PROCESS_LOADS
    parts = [Part("start workers", loads * basis.load_s)] if loads else []
    if config.train.learning_rate == "auto":
        first_step_s = times_of[0].training_s / training.steps
        parts.append(Part("find the learning rate", RANGE_STEPS * first_step_s))
    what = f"train {counted(n, 'epoch')} of {counted(training.steps, 'step')}"
    start_s = sum(part.seconds for part in parts)
    parts.append(Part(what, sum(times[:n])))
    return parts, start_s + sum(times[:fewest]), start_s + sum(times[:n]), n, tuple(limits)


def _sweep(basis: Basis) -> tuple[list[Part], float, float, int, tuple[str, ...]]:
    sweep, config = basis.room.sweep, basis.config
    assert sweep is not None
    at_once, load_s = sweep.trials.concurrent, basis.load_s
    in_process = sweep.trials.workers.in_process
    paces = []
    for training in basis.trainings.trainings:
        times = [epoch.seconds for epoch in epoch_times(basis, training)]
        epochs = epochs_within(training.config, times)
        start_s = (TRIAL_LOADS if in_process else TRAIN_LOADS + PROCESS_LOADS) * load_s
        paces.append(TrialPace(start_s, statistics.fmean(times[:epochs]), epochs))
    started_s = PROCESS_LOADS * load_s
    searched = forecast(config, paces, metric=metric_of(config), concurrent=at_once)
    most = to_their_end(paces, concurrent=at_once)
    grace = [
        pace if number == 0 or config.tune.scheduler == "none" else _cut(pace, config.tune.grace_epochs)
        for number, pace in enumerate(paces)
    ]
    least = to_their_end(grace, concurrent=at_once)
    parts = [Part("start the first trial", started_s)]
    what = f"{counted(sweep.n_trials, 'trial')}, {at_once} at a time, about {searched.epochs} of {most.epochs} epochs"
    parts.append(Part(what, searched.seconds))
    finals = _finals(basis, paces, at_once)
    if finals.epochs:
        parts.append(Part(f"finals of {finals.epochs} epochs", finals.seconds + started_s))
    rest_s = started_s + (finals.seconds + started_s if finals.epochs else 0.0)
    limits = (
        () if searched.epochs == most.epochs else (f"tune.scheduler={config.tune.scheduler} may stop none or most",)
    )
    return parts, rest_s + least.seconds, rest_s + most.seconds, searched.epochs + finals.epochs, limits


def _cut(pace: TrialPace, epochs: int) -> TrialPace:
    return TrialPace(pace.start_s, pace.epoch_s, min(epochs, pace.epochs))


def _finals(basis: Basis, paces: Sequence[TrialPace], at_once: int) -> Forecast:
    tune = basis.config.tune
    n_others = min(tune.finalists, len(paces) - 1)
    if tune.verdict_seeds == 0 or not n_others:
        return Forecast(0.0, 0)
    others = paces[1:]
    mean = TrialPace(
        statistics.fmean(pace.start_s for pace in others),
        statistics.fmean(pace.epoch_s for pace in others),
        round(statistics.fmean(pace.epochs for pace in others)),
    )
    return to_their_end([paces[0], *[mean] * n_others] * tune.verdict_seeds, concurrent=at_once)
