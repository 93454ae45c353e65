"""The charts of a sweep: trials in, SVG out, to be put into a page.

Text and lines take the colour of the text around them, so that a chart follows its page's light or dark theme. Draws
through matplotlib's objects, so that no backend is chosen and no figure stays behind in the process.
"""

from __future__ import annotations

import html
import io
import json
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ray_trash.config.tune import Dimension
from ray_trash.terminal.text import printable, shortened
from ray_trash.tune.space import grid_values
from ray_trash.tune.trials import AS_WRITTEN, TrialRecord

PALETTE = ("#4c78a8", "#b05c8e", "#e8590c")
"""Worst to best: of middling lightness, to be seen on white and on black, and blue against orange for those who do
not tell red from green."""
_INK = "#010203"
"""Drawn in place of the page's own text colour, which matplotlib cannot name."""
_INK_KEYS = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
_STYLE = {
    "svg.fonttype": "none",  # text stays text: searched, copied, and in the page's font
    "text.parse_math": False,  # a dollar in a name is a dollar
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    **dict.fromkeys(_INK_KEYS, _INK),
}
_MAX_LABEL_CHARACTERS = 18
_OUTSIDE = -0.14
"""Height of what a key's axis cannot show, such as a config as written that lies outside the space; 0..1 is inside."""
_MOST_LABELS = 12
_LABEL_HEIGHT = 0.06


def shown(value: Any) -> str:
    """Write a value of the config as YAML would, numbers to four digits."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, default=str)


def shown_score(value: float) -> str:
    """Write a value of the metric."""
    return f"{value:.4f}" if value == 0 or 0.001 <= abs(value) < 1e6 else f"{value:.4g}"


def coloured_range(scored: Sequence[TrialRecord]) -> tuple[float, float]:
    """Return the values that the first and the last colour stand for; trials come with the best first."""
    # Trials that were pruned early are so far below the others that these would all look alike.
    best = scored[0].best_value or 0.0
    done = [record.best_value or 0.0 for record in scored if record.status == "done"]
    return done[-1] if done and done[-1] != best else scored[-1].best_value or 0.0, best


def parallel_coordinates(scored: Sequence[TrialRecord], space: Mapping[str, Dimension], *, metric: str) -> str:
    """Draw an axis for each searched key and for the metric, and a line through them for each trial.

    Args:
        scored: Trials that have a finite best value, the best first; at least one.
        space: The searched keys, which every trial has in its params.
        metric: Name of the metric.
    """
    axes_of = {key: _key_axis([record.params[key] for record in scored], space[key]) for key in space}
    axes_of[metric] = _score_axis([record.best_value or 0.0 for record in scored])
    with _figure(1.5 * len(axes_of), 4.0) as figure:
        axes = figure.add_subplot(xlim=(0, len(space) or 1), ylim=(_OUTSIDE, 1.0))
        axes.set_axis_off()
        for x, (name, (_, labels)) in enumerate(axes_of.items()):
            axes.plot((x, x), (0, 1), color=_INK, linewidth=0.8, clip_on=False)
            section, dot, key = name.rpartition(".")
            title = f"{_label(section)}{dot}\n{_label(key)}" if dot else _label(name)
            axes.annotate(title, (x, 1), (0, 10), textcoords="offset points", ha="center", weight="bold")
            for y, text in labels:
                axes.annotate(_label(text), (x, y), (5, 0), textcoords="offset points", va="center")
        heights = list(zip(*(heights for heights, _ in axes_of.values()), strict=True))
        for record, colour, ys in _best_last(scored, heights):
            _draw_trial(axes, range(len(ys)), ys, record, colour, is_best=record is scored[0])
        for y, text in _names_of_ends(scored, [ys[-1] for ys in heights]):
            axes.annotate(text, (len(space), y), (48, 0), textcoords="offset points", va="center")
    return _svg(figure, "parallel", scored, metric)


def learning_curves(scored: Sequence[TrialRecord], *, metric: str) -> str:
    """Draw the metric over the epochs, a line for each trial: a dot at its best epoch, a cross where it was pruned.

    Args:
        scored: Trials that have a finite best value, the best first.
        metric: Name of the metric.

    Returns:
        SVG, or nothing where no trial has a curve.
    """
    curves = [
        [(epoch, value) for epoch, value in enumerate(record.curve, start=1) if math.isfinite(value)]
        for record in scored
    ]
    if not any(curves):
        return ""
    with _figure(8.0, 3.6) as figure:
        axes = figure.add_subplot(xlabel="epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y", color="#808890", alpha=0.3, linewidth=0.6)
        for record, colour, curve in _best_last(scored, curves):
            if not curve:
                continue
            _draw_trial(axes, *zip(*curve, strict=True), record, colour, is_best=record is scored[0])
            if record.best_epoch in dict(curve):
                best = dict(curve)[record.best_epoch]
                axes.plot(record.best_epoch, best, "o", color=colour, markersize=5, gid=f"best-epoch-{record.trial}")
            if record.status == "pruned":
                axes.plot(*curve[-1], "x", color=colour, markersize=7, gid=f"pruned-{record.trial}")
    return _svg(figure, "curves", scored, metric)


def importance_bars(shares: Mapping[str, float]) -> str:
    """Draw a bar for each key, the longest on top."""
    keys = sorted(shares, key=lambda key: shares[key])
    with _figure(6.0, 0.35 * len(keys)) as figure:
        axes = figure.add_subplot(xticks=[])
        axes.set_frame_on(False)
        axes.tick_params(length=0)
        bars = axes.barh(range(len(keys)), [shares[key] for key in keys], height=0.6, color=PALETTE[0])
        axes.set_yticks(range(len(keys)), [_label(key, 2 * _MAX_LABEL_CHARACTERS) for key in keys])
        axes.bar_label(bars, [f"{100 * shares[key]:.0f} %" for key in keys], padding=4)
    return _svg(figure, "importance")


@contextmanager
def _figure(width_in: float, height_in: float) -> Iterator[Figure]:
    with matplotlib.rc_context(_STYLE):
        yield Figure(figsize=(width_in, height_in))


def _svg(figure: Figure, name: str, scored: Sequence[TrialRecord] = (), metric: str = "") -> str:
    svg = io.StringIO()
    no_metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    # Names of shapes are digests: with a salt of the chart's own, two renderings are equal and two charts differ.
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # the page's font may have it
        figure.savefig(svg, format="svg", transparent=True, bbox_inches="tight", metadata=no_metadata)
    text = svg.getvalue()
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text)  # known to HTML
    for record in scored:
        values = "; ".join(f"{key} {shown(value)}" for key, value in record.params.items())
        words = f"trial {record.trial}, {record.status}: {metric} {shown_score(record.best_value or 0.0)}; {values}"
        title = f'<g class="trial"><title>{html.escape(printable(words))}</title>'
        text = text.replace(f'<g id="trial-{record.trial}">', title)
    return text


def _best_last(scored: Sequence[TrialRecord], drawn: Sequence[Any]) -> Iterator[tuple[TrialRecord, str, Any]]:
    """Yield trials with their colour and what is drawn of them, so that the best lies on top."""
    colours, ends = LinearSegmentedColormap.from_list("trials", PALETTE), coloured_range(scored)
    for record, what in zip(reversed(scored), reversed(drawn), strict=True):
        yield record, to_hex(colours(_share(record.best_value or 0.0, *ends, alike=1.0))), what


def _draw_trial(
    axes: Axes, xs: Sequence[float], ys: Sequence[float], record: TrialRecord, colour: str, *, is_best: bool
) -> None:
    style = "--" if record.status == "pruned" else "-"
    width, alpha = (3.0, 1.0) if is_best else (1.5, 0.8)
    gid = f"trial-{record.trial}"
    axes.plot(xs, ys, style, color=colour, linewidth=width, alpha=alpha, clip_on=False, gid=gid)


def _key_axis(values: Sequence[Any], dimension: Dimension) -> tuple[list[float], list[tuple[float, str]]]:
    """Return the height of each value, 0..1, or below where the axis cannot show it; and heights with their labels."""
    marks = grid_values(dimension)

    def height(value: Any) -> float:
        if dimension.choice is not None:
            return _share(marks.index(value), 0, len(marks) - 1) if value in marks else _OUTSIDE
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not marks[0] <= value <= marks[-1]:
            return _OUTSIDE
        low, high, at = np.log((marks[0], marks[-1], value)) if dimension.loguniform else (marks[0], marks[-1], value)
        return _share(float(at), float(low), float(high))

    heights = [height(value) for value in values]
    labels = [(height(mark), shown(mark)) for mark in marks[:: math.ceil(len(marks) / _MOST_LABELS)]]
    outside = dict.fromkeys(shown(value) for value, at in zip(values, heights, strict=True) if at == _OUTSIDE)
    return heights, [*labels, *([(_OUTSIDE, ", ".join(outside))] if outside else [])]


def _score_axis(values: Sequence[float]) -> tuple[list[float], list[tuple[float, str]]]:
    low, high = min(values), max(values)
    marks = (low, (low + high) / 2, high) if low < high else (low,)
    return [_share(value, low, high) for value in values], [
        (_share(mark, low, high), shown_score(mark)) for mark in marks
    ]


def _share(value: float, low: float, high: float, *, alike: float = 0.5) -> float:
    """Place a value between two, 0..1; at `alike` where the two are one."""
    return alike if high == low else min(max((value - low) / (high - low), 0.0), 1.0)


def _names_of_ends(scored: Sequence[TrialRecord], heights: Sequence[float]) -> Iterator[tuple[float, str]]:
    """Name the best trial and the config as written at the ends of their lines."""
    best, *others = zip(scored, heights, strict=True)
    yield best[1], f"{best[0].trial} best" + (", as written" if best[0].trial == AS_WRITTEN else "")
    for record, y in others:
        if record.trial == AS_WRITTEN:
            apart = abs(y - best[1]) >= _LABEL_HEIGHT
            yield y if apart else best[1] + math.copysign(_LABEL_HEIGHT, y - best[1]), "0 as written"


def _label(name: str, most: int = _MAX_LABEL_CHARACTERS) -> str:
    return shortened(printable(name), most)
