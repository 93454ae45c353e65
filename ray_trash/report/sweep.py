"""The part of a report that is about a sweep: every trial, what was tried, what mattered, and the verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ray_trash.config.tune import Dimension
from ray_trash.tune import charts
from ray_trash.tune.importance import MIN_TRIALS, importances
from ray_trash.tune.trials import AS_WRITTEN, TrialRecord, ranked


def sweep_section(
    records: Sequence[TrialRecord],
    space: Mapping[str, Dimension],
    *,
    metric: str,
    higher_is_better: bool,
    lines: Sequence[str],
) -> dict[str, Any]:
    """Return what `sweep.html.j2` shows.

    Every record has the keys of `space` in its params; `lines` are sentences for the top, the summary and the verdict.
    """
    # A value that is no number cannot be ranked or drawn: the trial then has none.
    trials = [
        replace(record, best_value=None) if not math.isfinite(record.best_value or 0) else record for record in records
    ]
    scored = ranked(trials, higher_is_better=higher_is_better)
    shares = importances(trials, space)
    return {
        "lines": lines,
        "metric": metric,
        "direction": "higher is better" if higher_is_better else "lower is better",
        "space": list(space),
        "scored": scored,
        "rest": sorted((record for record in trials if record not in scored), key=lambda record: record.trial),
        "as_written": AS_WRITTEN,
        "palette": charts.PALETTE,
        "colour_ends": charts.coloured_range(scored) if scored else (),
        "parallel": charts.parallel_coordinates(scored, space, metric=metric) if scored else "",
        "curves": charts.learning_curves(scored, metric=metric),
        "shares": shares,
        "bars": charts.importance_bars(shares) if any(shares.values()) else "",
        "min_trials": MIN_TRIALS,
    }
