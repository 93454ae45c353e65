"""What a sweep was spared, in one line: epochs by stopping trials early, seconds by that and by sharing work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ray_trash.config import Config, Dimension
from ray_trash.tune.shared import SharedActivations
from ray_trash.tune.space import n_grid_points
from ray_trash.tune.trials import TrialRecord


def savings_line(
    records: Sequence[TrialRecord],
    config: Config,
    space: Mapping[str, Dimension],
    shared: SharedActivations,
    *,
    concurrent: int,
) -> str:
    """Say what was run and what was not.

    The seconds are estimates: an epoch that was not trained would have taken as long as the trial's others, and
    the frozen stages as long as when they were computed, or as they take now where some were there before.
    """
    run = sum(record.epochs_run for record in records)
    planned = sum(_planned_epochs(record, config) for record in records)
    grid = n_grid_points(space) * config.train.epochs
    pruned_s = sum(
        record.seconds / record.epochs_run * (_planned_epochs(record, config) - record.epochs_run)
        for record in records
        if record.status == "pruned" and record.epochs_run
    ) / max(1, concurrent)
    cache_s = -shared.build_s
    for record in records:
        cut = record.params.get("model.frozen_stages", config.model.frozen_stages)
        cache_s += shared.pass_s.get(cut, 0.0) * record.epochs_run
    parts = [
        f"{run} of the {planned} epochs of {len(records)} trials were trained; a full grid (ranges as three values) "
        f"takes {grid}"
    ]
    if pruned_s > 0:
        parts.append(f"about {pruned_s:.0f} s saved by stopping trials early")
    if shared.pass_s:
        parts.append(f"about {cache_s:.0f} s saved by computing frozen stages once")
    return "; ".join(parts)


def _planned_epochs(record: TrialRecord, config: Config) -> int:
    epochs = int(record.params.get("train.epochs", config.train.epochs))
    if config.train.time_budget_min is None or not record.epochs_run:
        return epochs
    in_time = int(60 * config.train.time_budget_min / (record.seconds / record.epochs_run))
    return max(record.epochs_run, min(epochs, in_time))
