"""The charts of a sweep: trials in, SVG out, to be put into a page.

`scored` are trials that have a finite best value, the best first.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ray_trash.config.tune import Dimension
from ray_trash.terminal.svg import INK, STYLE, svg_of
from ray_trash.terminal.text import printable, shortened
from ray_trash.tune.space import OUTSIDE, grid_values, height_in
from ray_trash.tune.trials import AS_WRITTEN, TrialRecord

PALETTE = ("#4c78a8", "#b05c8e", "#e8590c")
"""Worst to best: of middling lightness, to be seen on white and on black, and blue against orange for those who do
not tell red from green."""
_MOST_LABELS = 12


def shown(value: Any) -> str:
    """Write a value of the config as YAML would, numbers to four digits."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, default=str)


def shown_score(value: float) -> str:
    """Write a value of the metric."""
    return f"{value:.4f}" if value == 0 or 0.001 <= abs(value) < 1e6 else f"{value:.4g}"


def coloured_range(scored: Sequence[TrialRecord]) -> tuple[float, float]:
    """Return the values that the first and the last colour stand for."""
    # Trials that were pruned early are so far below the others that these would all look alike.
    best = _value(scored[0])
    done = [_value(record) for record in scored if record.status == "done"]
    return done[-1] if done and done[-1] != best else _value(scored[-1]), best


@matplotlib.rc_context(STYLE)
def parallel_coordinates(scored: Sequence[TrialRecord], space: Mapping[str, Dimension], *, metric: str) -> str:
    """Draw an axis for each searched key and for the metric, and a line through them for each trial."""
    low, high = sorted([_value(scored[0]), _value(scored[-1])])
    of_metric = Dimension(uniform=(low, high)) if low < high else Dimension(choice=(low,))
    columns = [(key, [record.params[key] for record in scored], space[key]) for key in space]
    columns.append((metric, [_value(record) for record in scored], of_metric))
    figure = Figure(figsize=(1.5 * len(columns), 4.0))
    axes = figure.add_subplot(xlim=(0, max(1, len(space))), ylim=(OUTSIDE, 1.0))
    axes.set_axis_off()
    for x, (name, values, dimension) in enumerate(columns):
        axes.plot((x, x), (0, 1), color=INK, linewidth=0.8, clip_on=False)
        section, dot, key = name.rpartition(".")
        title = f"{_label(section)}{dot}\n{_label(key)}" if dot else _label(name)
        axes.annotate(title, (x, 1), (0, 10), textcoords="offset points", ha="center", weight="bold")
        for y, text in _labels(values, dimension):
            axes.annotate(_label(text), (x, y), (5, 0), textcoords="offset points", va="center")
    heights = [[height_in(dimension, value) for value in values] for _, values, dimension in columns]  # (axes, trials)
    lines = list(zip(*heights, strict=True))
    best_is_on_top = lines[0][-1] >= 0.5
    for record, colour, line in _best_last(scored, lines):
        _draw_trial(axes, range(len(line)), line, record, colour, is_best=record is scored[0])
        names = ["best"] * (record is scored[0]) + ["as written"] * (record.trial == AS_WRITTEN)
        if names:
            # The names of two trials that end side by side stay clear of each other.
            va = "bottom" if best_is_on_top == (record is scored[0]) else "top"
            at, text = (len(space), line[-1]), f"{record.trial} {', '.join(names)}"
            axes.annotate(text, at, (48, 0), textcoords="offset points", va=va)
    label = f"a line for each trial through its values and its {metric}; the table has the same numbers"
    return _svg(figure, "parallel", label, scored, metric)


@matplotlib.rc_context(STYLE)
def learning_curves(scored: Sequence[TrialRecord], *, metric: str) -> str:
    """Draw the metric over the epochs, a dot at a best epoch, a cross where a trial was pruned; "" without a curve."""
    curves = [
        {epoch: value for epoch, value in enumerate(record.curve, start=1) if math.isfinite(value)} for record in scored
    ]
    if not any(curves):
        return ""
    figure = Figure(figsize=(8.0, 3.6))
    axes = figure.add_subplot(xlabel="epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(axis="y", color="#808890", alpha=0.3, linewidth=0.6)
    for record, colour, curve in _best_last(scored, curves):
        epochs, values = list(curve), list(curve.values())
        _draw_trial(axes, epochs, values, record, colour, is_best=record is scored[0])
        best = record.best_epoch
        if best is not None and best in curve:
            axes.plot(best, curve[best], "o", color=colour, markersize=5, gid=f"best-epoch-{record.trial}")
        if record.status == "pruned":
            axes.plot(epochs[-1:], values[-1:], "x", color=colour, markersize=7, gid=f"pruned-{record.trial}")
    return _svg(figure, "trial-curves", f"{metric} of each trial over its epochs", scored, metric)


@matplotlib.rc_context(STYLE)
def importance_bars(shares: Mapping[str, float]) -> str:
    """Draw a bar for each key, the longest on top."""
    keys = sorted(shares, key=lambda key: shares[key])
    axes = (figure := Figure(figsize=(6.0, 0.35 * len(keys)))).add_subplot(xticks=[])
    axes.set_frame_on(False)
    axes.tick_params(length=0)
    bars = axes.barh(range(len(keys)), [shares[key] for key in keys], height=0.6, color=PALETTE[0])
    axes.set_yticks(range(len(keys)), [_label(key, 36) for key in keys])
    axes.bar_label(bars, [f"{100 * shares[key]:.0f} %" for key in keys], padding=4)
    label = "; ".join(f"{key} {100 * shares[key]:.0f} %" for key in reversed(keys))
    return _svg(figure, "importance", f"what mattered: {label}")


def _svg(figure: Figure, name: str, label: str, scored: Sequence[TrialRecord] = (), metric: str = "") -> str:
    text = svg_of(figure, name, label=label)
    for record in scored:
        values = "; ".join(f"{key} {shown(value)}" for key, value in record.params.items())
        words = f"trial {record.trial}, {record.status}: {metric} {shown_score(_value(record))}; {values}"
        title = f'<g class="trial"><title>{html.escape(printable(words))}</title>'
        text = text.replace(f'<g id="trial-{record.trial}">', title)
    return text


def _best_last(scored: Sequence[TrialRecord], drawn: Sequence[Any]) -> Iterator[tuple[TrialRecord, str, Any]]:
    """Yield trials with their colour and what is drawn of them, so that the best lies on top."""
    colours, (worst, best) = LinearSegmentedColormap.from_list("trials", PALETTE), coloured_range(scored)
    for record, what in zip(reversed(scored), reversed(drawn), strict=True):
        # Out of the range is drawn in the colour of its end.
        share = 1.0 if worst == best else (_value(record) - worst) / (best - worst)
        yield record, to_hex(colours(share)), what


def _draw_trial(
    axes: Axes, xs: Sequence[float], ys: Sequence[float], record: TrialRecord, colour: str, *, is_best: bool
) -> None:
    style = "--" if record.status == "pruned" else "-"
    width, alpha = (3.0, 1.0) if is_best else (1.5, 0.8)
    gid = f"trial-{record.trial}"
    axes.plot(xs, ys, style, color=colour, linewidth=width, alpha=alpha, clip_on=False, gid=gid)


def _labels(values: Sequence[Any], dimension: Dimension) -> Iterator[tuple[float, str]]:
    """Yield where an axis is labelled: at some of its marks, and where values lie that it cannot show."""
    marks = grid_values(dimension)
    for mark in marks[:: math.ceil(len(marks) / _MOST_LABELS)]:
        yield height_in(dimension, mark), shown(mark)
    outside = dict.fromkeys(shown(value) for value in values if height_in(dimension, value) == OUTSIDE)
    if outside:
        yield OUTSIDE, ", ".join(outside)


def _value(record: TrialRecord) -> float:
    assert record.best_value is not None
    return record.best_value


def _label(name: str, most_characters: int = 18) -> str:
    return shortened(printable(name), most_characters)
