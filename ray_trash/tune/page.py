"""A sweep as one page to look at: trials in, HTML out.

The page stands alone: style and drawings are in it, it loads nothing and runs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ray_trash.config.tune import Dimension
from ray_trash.terminal.text import printable
from ray_trash.tune.charts import (
    PALETTE,
    coloured_range,
    importance_bars,
    learning_curves,
    parallel_coordinates,
    shown,
    shown_score,
)
from ray_trash.tune.importance import MIN_TRIALS, importances
from ray_trash.tune.trials import AS_WRITTEN, TrialRecord, ranked

PAGE_FILE = "sweep.html"


def sweep_page(
    title: str,
    records: Sequence[TrialRecord],
    space: Mapping[str, Dimension],
    *,
    metric: str,
    higher_is_better: bool,
    lines: Sequence[str],
) -> bytes:
    """Render the page of a sweep.

    Args:
        title: Of the page.
        records: All trials, in any order.
        space: The searched keys, which every record has in its params.
        metric: Name of the metric that trials were judged by.
        higher_is_better: Whether a higher value of it is better.
        lines: Sentences for the top: the summary and the verdict.

    Returns:
        An HTML file in UTF-8.
    """
    # A value that is no number cannot be ranked or drawn: the trial then has none.
    trials = [replace(record, best_value=_finite(record.best_value)) for record in records]
    scored = ranked(trials, higher_is_better=higher_is_better)
    rest = sorted((record for record in trials if record not in scored), key=lambda record: record.trial)
    shares = importances(trials, space)
    page = _environment().get_template("sweep.html.j2")
    return page.render(
        title=title,
        lines=lines,
        metric=metric,
        direction="higher is better" if higher_is_better else "lower is better",
        space=list(space),
        scored=scored,
        rest=rest,
        palette=PALETTE,
        colour_ends=coloured_range(scored) if scored else (),
        parallel=Markup(parallel_coordinates(scored, space, metric=metric)) if scored else "",
        curves=Markup(learning_curves(scored, metric=metric)) if scored else "",
        shares=shares,
        bars=Markup(importance_bars(shares)) if any(shares.values()) else "",
        min_trials=MIN_TRIALS,
        as_written=AS_WRITTEN,
    ).encode()


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("ray_trash.tune", "."),
        autoescape=True,
        finalize=_finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(shown=shown, score=shown_score)
    environment.tests["finite"] = math.isfinite
    return environment


def _finalize(value: Any) -> Any:
    return value if isinstance(value, Markup) else printable(str(value))


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
