"""The charts of a sweep's page: trials in, inline SVG out.

Colours of text and lines come from the page's style sheet, so that a chart follows its light or dark theme. Every
text is escaped here.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray_trash.config.tune import Dimension
from ray_trash.tune.trials import TrialRecord

_PALETTE = ((0x4C, 0x78, 0xA8), (0xB0, 0x5C, 0x8E), (0xE8, 0x59, 0x0C))
"""Worst to best: of middling lightness, to be seen on white and on black, and blue against orange for those who do
not tell red from green."""
_NEAREST_TICKS = 0.08
"""Of an axis; closer labels would overlap."""
_MAX_LABEL_CHARACTERS = 18
_AXIS_WIDTH, _PLOT_HEIGHT = 140, 260
_LABEL_HEIGHT = 16


@dataclass(frozen=True)
class _Axis:
    """One axis: where each trial is on it and where it is labelled, 0 the bottom and 1 the top."""

    title: str
    positions: list[float]
    ticks: list[tuple[float, str]]


def escaped(text: str) -> str:
    """Make a text safe between tags and in attributes; characters that cannot be printed become `?`."""
    printable = (character if character.isprintable() else " " if character.isspace() else "?" for character in text)
    return html.escape("".join(printable))


def shown(value: Any) -> str:
    """Write a value of the config as YAML would, numbers to four digits; not escaped."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, default=str)


def shown_score(value: float) -> str:
    """Write a value of the metric."""
    return f"{value:.4f}" if value == 0 or 0.001 <= abs(value) < 1e6 else f"{value:.4g}"


def colour_key(scored: Sequence[TrialRecord]) -> str:
    """Draw what the colours mean.

    Args:
        scored: Trials that have a finite best value, the best first; at least one.
    """
    worst, best = (shown_score(value) for value in _coloured_range(scored))
    stops = "".join(f'<stop offset="{share}" stop-color="{_colour(share)}"/>' for share in (0, 0.5, 1))
    return _svg(
        460,
        22,
        f"colours from {worst} or worse to {best}",
        f'<defs><linearGradient id="palette">{stops}</linearGradient></defs>',
        '<rect x="150" y="5" width="160" height="12" fill="url(#palette)"/>',
        _text(142, 15, f"{worst} or worse", anchor="end"),
        _text(318, 15, f"best {best}"),
    )


def parallel_coordinates(scored: Sequence[TrialRecord], space: Mapping[str, Dimension], *, metric: str) -> str:
    """Draw an axis for each searched key and for the metric, and a line through them for each trial.

    Args:
        scored: Trials that have a finite best value, the best first; at least one.
        space: The searched keys, which every trial has in its params.
        metric: Name of the metric.
    """
    axes = [_key_axis(key, [record.params[key] for record in scored], space[key]) for key in space]
    axes.append(_score_axis(metric, [record.best_value or 0.0 for record in scored]))
    left, top = 70, 50
    across = [left + number * _AXIS_WIDTH for number in range(len(axes))]

    def height(position: float) -> float:
        return top + (1 - position) * _PLOT_HEIGHT

    colour_of = _colours(scored)
    lines = []
    for number, record in reversed(list(enumerate(scored))):
        points = [(x, height(axis.positions[number])) for x, axis in zip(across, axes, strict=True)]
        lines.append(_line(record, points, colour_of[record.trial], metric, is_best=number == 0))
    frame = []
    for x, axis in zip(across, axes, strict=True):
        frame.append(f'<line class="axis" x1="{x}" y1="{top}" x2="{x}" y2="{top + _PLOT_HEIGHT}"/>')
        frame.append(_axis_title(axis.title, x))
        frame += [_text(x + 5, height(at) + 4, _shorten(name)) for at, name in axis.ticks]
    names = _names_of_ends(scored, [height(position) for position in axes[-1].positions], across[-1] + 62)
    size = (across[-1] + 170, top + _PLOT_HEIGHT + 30)
    return _svg(*size, f"a line for each trial, through its values and its {metric}", *lines, *frame, *names)


def learning_curves(scored: Sequence[TrialRecord], *, metric: str) -> str:
    """Draw the metric over the epochs, a line for each trial, with a dot at its best epoch.

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
    values = [value for curve in curves for _, value in curve]
    if not values:
        return ""
    low, high, last = min(values), max(values), max(epoch for curve in curves for epoch, _ in curve)
    left, top, width = 70, 20, 600

    def point(epoch: int, value: float) -> tuple[float, float]:
        across = left + width * _share(epoch, 1, last, middle=0.0)
        return across, top + _PLOT_HEIGHT * (1 - _share(value, low, high))

    colour_of = _colours(scored)
    lines = []
    for number, (record, curve) in reversed(list(enumerate(zip(scored, curves, strict=True)))):
        if not curve:
            continue
        colour = colour_of[record.trial]
        lines.append(_line(record, [point(*at) for at in curve], colour, metric, is_best=number == 0))
        if record.best_epoch in dict(curve) or len(curve) == 1:
            x, y = point(*next((at for at in curve if at[0] == record.best_epoch), curve[0]))
            lines.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>')
        if record.status == "pruned":
            x, y = point(*curve[-1])
            lines.append(f'<path class="cross" d="M{x - 5:.1f} {y - 5:.1f}l10 10m-10 0l10 -10" stroke="{colour}"/>')
    bottom = top + _PLOT_HEIGHT
    frame = [f'<path class="axis" d="M{left} {top}V{bottom}H{left + width}"/>']
    for at, name in _ticks(low, high, shown_score):
        frame.append(_text(left - 8, bottom - _PLOT_HEIGHT * at + 4, name, anchor="end"))
    for at, name in _ticks(1, last, shown, whole=True):
        frame.append(_text(left + width * (at if last > 1 else 0), bottom + 18, name, anchor="middle"))
    frame.append(_text(left + width / 2, bottom + 36, "epoch", anchor="middle"))
    return _svg(left + width + 30, bottom + 45, f"{metric} of each trial over the epochs", *frame, *lines)


def importance_bars(shares: Mapping[str, float]) -> str:
    """Draw a bar for each key, the longest first."""
    left, width, row = 230, 260, 26
    bars = []
    for number, (key, share) in enumerate(sorted(shares.items(), key=lambda item: -item[1])):
        y = number * row
        name = _text(left - 8, y + 17, _shorten(key, 2 * _MAX_LABEL_CHARACTERS), anchor="end")
        bar = f'<rect class="bar" x="{left}" y="{y + 5}" width="{max(width * share, 1):.1f}" height="16"/>'
        percentage = _text(left + width * share + 8, y + 17, f"{100 * share:.0f} %")
        bars.append(f"<g><title>{escaped(key)}</title>{name}{bar}{percentage}</g>")
    return _svg(left + width + 60, row * len(bars), "how much each key matters", *bars)


def _svg(width: float, height: float, meaning: str, *parts: str) -> str:
    # Shrinks to a phone as far as its text stays legible; from there on its frame scrolls.
    sizes = f"min-width:{0.75 * width:.0f}px;max-width:{1.25 * width:.0f}px"
    head = f'<svg viewBox="0 0 {width} {height}" style="{sizes}" role="img" aria-label="{escaped(meaning)}">'
    return "\n".join([head, *parts, "</svg>"])


def _text(x: float, y: float, content: str, *, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escaped(content)}</text>'


def _line(
    record: TrialRecord, points: Iterable[tuple[float, float]], colour: str, metric: str, *, is_best: bool
) -> str:
    names = [name for name, given in (("pruned", record.status == "pruned"), ("best", is_best)) if given]
    values = "; ".join(f"{key} {shown(value)}" for key, value in record.params.items())
    what = f"trial {record.trial}, {record.status}: {metric} {shown_score(record.best_value or 0.0)}; {values}"
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    classes = " ".join(["trial", *names])
    return f'<polyline class="{classes}" points="{joined}" stroke="{colour}"><title>{escaped(what)}</title></polyline>'


def _axis_title(title: str, x: float) -> str:
    section, dot, name = title.rpartition(".")
    lines = f'<tspan x="{x}" y="16">{escaped(_shorten(section + dot))}</tspan>' if dot else ""
    name = f'<tspan x="{x}" y="32">{escaped(_shorten(name))}</tspan>'
    return f'<text class="name" text-anchor="middle"><title>{escaped(title)}</title>{lines}{name}</text>'


def _names_of_ends(scored: Sequence[TrialRecord], heights: Sequence[float], x: float) -> list[str]:
    """Name the best trial and the config as written at the ends of their lines."""
    named = {0: f"{scored[0].trial} best"}
    for number, record in enumerate(scored):
        if record.trial == 0:
            named[number] = "0 best, as written" if number == 0 else "0 as written"
    ends = []
    for number, name in named.items():
        y = heights[number]
        if number and abs(y - heights[0]) < _LABEL_HEIGHT:
            y = heights[0] + math.copysign(_LABEL_HEIGHT, y - heights[0])
        ends.append(_text(x, y + 4, name))
    return ends


def _key_axis(key: str, values: Sequence[Any], dimension: Dimension) -> _Axis:
    if dimension.choice is not None:
        options = list(dimension.choice)
        # The config as written may hold what is not among the choices.
        options += [value for number, value in enumerate(values) if value not in [*options, *values[:number]]]
        places = [_share(number, 0, len(options) - 1) for number in range(len(options))]
        ticks = [(place, shown(option)) for place, option in zip(places, options, strict=True)]
        return _Axis(key, [places[options.index(value)] for value in values], ticks)
    is_log = dimension.loguniform is not None
    low, high = dimension.loguniform or dimension.uniform or dimension.int or (0, 1)
    numbers = [low, high, *(value for value in values if _is_on_scale(value, is_log))]
    return _number_axis(key, values, min(numbers), max(numbers), is_log=is_log, whole=dimension.int is not None)


def _number_axis(key: str, values: Sequence[Any], low: float, high: float, *, is_log: bool, whole: bool) -> _Axis:
    strays = [value for value in values if not _is_on_scale(value, is_log)]
    # What no such axis can show, such as null or a zero among logarithms, gets a place of its own at the bottom.
    start = 0.12 if strays else 0.0
    ticks = _log_ticks(low, high) if is_log else _ticks(low, high, shown, whole=whole)
    ends = (math.log10(low), math.log10(high)) if is_log else (low, high)
    positions = [
        start + (1 - start) * _share(math.log10(value) if is_log else value, *ends)
        if _is_on_scale(value, is_log)
        else 0.0
        for value in values
    ]
    labels = [(start + (1 - start) * at, name) for at, name in ticks]
    if strays:
        labels.append((0.0, ", ".join(dict.fromkeys(shown(stray) for stray in strays))))
    return _Axis(key, positions, labels)


def _score_axis(metric: str, values: Sequence[float]) -> _Axis:
    low, high = min(values), max(values)
    return _Axis(metric, [_share(value, low, high) for value in values], _ticks(low, high, shown_score))


def _is_on_scale(value: Any, is_log: bool) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return is_number and (value > 0 or not is_log)


def _share(value: float, low: float, high: float, *, middle: float = 0.5) -> float:
    """Place a value between two, 0..1; at `middle` where the two are one."""
    return middle if high == low else (value - low) / (high - low)


def _ticks(low: float, high: float, name: Callable[[Any], str], *, whole: bool = False) -> list[tuple[float, str]]:
    """Label both ends of an axis, and round numbers between them."""
    if low == high:
        return [(0.5, name(low))]
    rough = (high - low) / 5
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= rough * (1 - 1e-9))
    step = max(step, 1.0) if whole else step
    between = [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return _apart([(_share(value, low, high), name(value)) for value in (low, high, *between)])


def _log_ticks(low: float, high: float) -> list[tuple[float, str]]:
    ends = math.log10(low), math.log10(high)
    powers = [10.0**power for power in range(math.ceil(ends[0]), math.floor(ends[1]) + 1)]
    return _apart([(_share(math.log10(value), *ends), shown(float(value))) for value in (low, high, *powers)])


def _apart(ticks: Iterable[tuple[float, str]]) -> list[tuple[float, str]]:
    """Leave out ticks that are too near to an earlier one."""
    kept: list[tuple[float, str]] = []
    for at, name in ticks:
        if all(abs(at - other) >= _NEAREST_TICKS for other, _ in kept):
            kept.append((at, name))
    return kept


def _coloured_range(scored: Sequence[TrialRecord]) -> tuple[float, float]:
    # Trials that were pruned early are so far below the others that these would all look alike.
    best = scored[0].best_value or 0.0
    done = [record.best_value or 0.0 for record in scored if record.status == "done"]
    return done[-1] if done and done[-1] != best else scored[-1].best_value or 0.0, best


def _colours(scored: Sequence[TrialRecord]) -> dict[int, str]:
    worst, best = _coloured_range(scored)
    return {record.trial: _colour(_share(record.best_value or 0.0, worst, best, middle=1.0)) for record in scored}


def _colour(share: float) -> str:
    place = min(max(share, 0.0), 1.0) * (len(_PALETTE) - 1)
    below = min(int(place), len(_PALETTE) - 2)
    pairs = zip(_PALETTE[below], _PALETTE[below + 1], strict=True)
    return "#" + "".join(f"{round(low + (high - low) * (place - below)):02x}" for low, high in pairs)


def _shorten(name: str, limit: int = _MAX_LABEL_CHARACTERS) -> str:
    return name if len(name) <= limit else name[: limit - 1] + "…"
