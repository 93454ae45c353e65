"""The charts of a run and of an evaluation: figures in, SVG out, to be put into a page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, PercentFormatter

from ray_trash.evaluate.metrics import ClassificationSums
from ray_trash.terminal.svg import INK, STYLE, svg_of
from ray_trash.terminal.text import percent, printable, shortened
from ray_trash.train.learning_rate import RangeTest, range_chart

BLUE, ORANGE = "#4c78a8", "#e8590c"
"""Seen on white and on black, and told apart by those who do not tell red from green."""
_GRID: dict[str, Any] = {"color": "#808890", "alpha": 0.3, "linewidth": 0.6}
_SIZE_INCHES = (4.6, 3.0)
"""A phone shows it whole without text too small to read; a wide screen shows two side by side."""
_LABEL_CHARACTERS = 24
_LINE_CHARACTERS = 40
"""Of the words of a legend, as far as a chart is wide."""


@matplotlib.rc_context(STYLE)
def epoch_curves(
    epochs: Sequence[Mapping[str, Any]], names: Mapping[str, str], *, best: int | None, title: str, log: bool = False
) -> str:
    """Draw figures of the epochs, key to word, and where the best epoch lies; "" where there is nothing to draw."""
    drawn = {name: [(epoch["epoch"], epoch[name]) for epoch in epochs if _finite(epoch.get(name))] for name in names}
    if not any(drawn.values()):
        return ""
    figure, axes = _axes(xlabel="epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if log:
        axes.set_yscale("log")
        # What matplotlib writes there by itself is a formula, which stays text.
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    for (name, points), colour, style in zip(drawn.items(), (BLUE, ORANGE, INK), ("-", "-", "--"), strict=False):
        if points:
            marker = "o" if len(points) == 1 else ""
            axes.plot(*zip(*points, strict=True), style, color=colour, marker=marker, label=names[name])
    if best is not None:
        axes.axvline(best, color=INK, linewidth=0.8, linestyle=":", label=f"best epoch, {best}")
    _legend(axes)
    last = {names[name]: points[-1][1] for name, points in drawn.items() if points}
    words = "; ".join(f"{word} ends at {value:.4g}" for word, value in last.items())
    return svg_of(figure, f"epochs-{'-'.join(names)}", label=f"{title} over {len(epochs)} epochs: {words}")


@matplotlib.rc_context(STYLE)
def range_test(found: RangeTest) -> str:
    """Draw how the learning rate was found."""
    label = f"loss over {len(found.rates)} learning rates from {found.rates[0]:g}: {found.learning_rate:g} is taken"
    return svg_of(range_chart(found), "range-test", label=label)


@matplotlib.rc_context(STYLE)
def reliability(sums: ClassificationSums) -> str:
    """Draw how often answers of each confidence are right, and how many there are."""
    filled = np.flatnonzero(sums.bin_n)
    n = sums.bin_n[filled]
    confidence, right = sums.bin_confidence_sum[filled] / n, sums.bin_correct[filled] / n
    figure, axes = _axes(xlabel="confidence", ylabel="share that is right", xlim=(0, 1.03), ylim=(0, 1.06))
    axes.plot((0, 1), (0, 1), color=INK, linewidth=0.8, linestyle=":", label="confidence that means what it says")
    axes.vlines(confidence, confidence, right, color=ORANGE, linewidth=1.2, label="gap")
    axes.scatter(confidence, right, s=12 + 160 * n / n.max(), color=BLUE, zorder=3, label="photos, by area")
    _percent_ticks(axes)
    _legend(axes)
    return svg_of(figure, "reliability", label=f"reliability: calibration error {sums.ece:.3f} over {sums.n} photos")


@matplotlib.rc_context(STYLE)
def risk_coverage(points: Sequence[Mapping[str, float]], selective: Mapping[str, Any] | None) -> str:
    """Draw the share of wrong answers over the share that is answered, and where the thresholds are."""
    figure, axes = _axes(xlabel="share of photos that are answered", ylabel="share of answers that are wrong")
    coverage, risk = [point["coverage"] for point in points], [point["risk"] for point in points]
    axes.plot(coverage, risk, color=BLUE, marker="o" if len(points) == 1 else "", label="the surest photos alone")
    words = f"answering all photos {percent(risk[0])} are wrong"
    if selective is not None and selective["error"] is not None:
        at, error = selective["coverage"], selective["error"]
        axes.plot(at, error, "D", color=ORANGE, markersize=8, label="at the thresholds", gid="thresholds")
        words += f"; at the thresholds {percent(at)} are answered, {percent(error)} of them wrong"
        if selective["target_error"] is not None:
            target = selective["target_error"]
            axes.axhline(target, color=INK, linewidth=0.8, linestyle=":", label=f"target, {percent(target)}")
    axes.set_xlim(0, 1.02)
    axes.set_ylim(bottom=0)
    _percent_ticks(axes)
    _legend(axes)
    return svg_of(figure, "risk-coverage", label=f"risk and coverage: {words}")


@matplotlib.rc_context(STYLE)
def intervals(rows: Sequence[tuple[str, float, Sequence[float]]], name: str, *, overall: float, what: str) -> str:
    """Draw a dot and its 95 % interval for each row (word, share, ends), and a line where all photos together are."""
    figure = Figure(figsize=(_SIZE_INCHES[0], 0.7 + 0.26 * len(rows)))
    axes = figure.add_subplot(xlim=(0, 1), ylim=(len(rows) - 0.5, -0.5), xlabel=what)
    axes.grid(axis="x", **_GRID)
    at = range(len(rows))
    axes.hlines(at, [ends[0] for *_, ends in rows], [ends[1] for *_, ends in rows], color=BLUE, linewidth=2)
    axes.plot([share for _, share, _ in rows], at, "o", color=BLUE, clip_on=False)
    axes.axvline(overall, color=INK, linewidth=0.8, linestyle=":")
    axes.set_yticks(at, [shortened(printable(word), _LABEL_CHARACTERS) for word, *_ in rows])
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_formatter(PercentFormatter(1))
    return svg_of(figure, name, label=f"{what}, with 95 % intervals; the table has the same numbers")


def _axes(**settings: Any) -> tuple[Figure, Axes]:
    figure = Figure(figsize=_SIZE_INCHES)
    axes = figure.add_subplot(**settings)
    axes.grid(axis="y", **_GRID)
    return figure, axes


def _legend(axes: Axes) -> None:
    # Above what is drawn: anywhere else it may cover a curve.
    words = axes.get_legend_handles_labels()[1]
    columns = len(words) if len(" ".join(words)) <= _LINE_CHARACTERS else 1
    place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0}
    axes.legend(frameon=False, labelcolor=INK, ncols=columns, **place)


def _percent_ticks(axes: Axes) -> None:
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1))


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
