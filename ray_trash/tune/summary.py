"""What a sweep did and was spared, in one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ray_trash.config import Config, Dimension, override
from ray_trash.tune.space import n_grid_points
from ray_trash.tune.trial import Sweep
from ray_trash.tune.trials import TrialRecord


def summary_line(records: Sequence[TrialRecord], sweep: Sweep, space: Mapping[str, Dimension]) -> str:
    """Say what was trained and what was not.

    Photos are counted; seconds are an estimate: an epoch that was not trained would have taken as long as the trial's
    others.
    """
    planned_of = {record.trial: _planned_epochs(record, override(sweep.config, record.params)) for record in records}
    run, planned = sum(record.epochs_run for record in records), sum(planned_of.values())
    grid = n_grid_points(space) * sweep.config.train.epochs
    parts = [f"trained {run:,} of {planned:,} planned epochs; a full grid (three values per range) would need {grid:,}"]
    stopped_s = sum(
        record.seconds / record.epochs_run * (planned_of[record.trial] - record.epochs_run)
        for record in records
        if record.status == "pruned" and record.epochs_run
    )
    if stopped_s > 0:
        parts.append(f"about {stopped_s / max(1, sweep.plan.concurrent):.0f} s saved by stopping trials early")
    from_cache = sum(record.epochs_run * _cached_photos(record, sweep) for record in records)
    if from_cache:
        parts.append(f"{from_cache:,} photos not computed again, their activations were in the cache")
    return "; ".join(parts)


def _planned_epochs(record: TrialRecord, config: Config) -> int:
    epochs = config.train.epochs
    if config.train.time_budget_min is None or not record.epochs_run:
        return epochs
    in_time = int(60 * config.train.time_budget_min / (record.seconds / record.epochs_run))
    return max(record.epochs_run, min(epochs, in_time))


def _cached_photos(record: TrialRecord, sweep: Sweep) -> int:
    """Count the photos of an epoch, to train on and to validate on, whose activations a trial took from the cache."""
    config = override(sweep.config, record.params)
    if config.model.frozen_stages not in (sweep.cached_stages or ()):
        return 0
    train = config.train
    sharers = train.sharers(sweep.plan.workers.workers)
    step = train.batch_size_per_worker * train.accumulate_batches * sharers
    drawn = len(sweep.photos.train) if train.steps_per_epoch is None else train.steps_per_epoch * step
    return drawn + len(sweep.photos.val)
