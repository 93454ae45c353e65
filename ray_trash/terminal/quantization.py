"""A comparison of an int8 network with the float one in sentences, from `quantized.json`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ray_trash.terminal.text import counted, p_value, percent, percents, points


def quantization_lines(report: Mapping[str, Any]) -> Iterator[str]:
    """Say both sides, the difference with its test, the largest change, and what is to be known beside."""
    n = report["n"]
    for name in ("float", "int8"):
        side = report[name]
        right = f"{side['correct']}/{n} = {percent(side['accuracy'])} of validation right"
        speed = f"{side['photos_per_s']:.1f} photos/s on {counted(report['threads'], 'thread')}"
        yield f"{side['engine']}: {right} (95 % interval {percents(side['accuracy_ci95'])}), {speed}"
    low, high = report["difference_ci95"]
    verdict = f"McNemar {p_value(report['p_value'])}, {'' if report['significant'] else 'not '}significant"
    yield (
        f"difference: {points(report['difference'])} points (95 % interval {points(low)} to {points(high)}), "
        f"{verdict}; right with float alone {report['only_float_right']}, with int8 alone {report['only_int8_right']}"
    )
    faster = report["int8"]["photos_per_s"] / report["float"]["photos_per_s"]
    yield (
        f"same answer to {report['agree']} of {counted(n, 'photo')}, largest change of a probability "
        f"{report['largest_change']:.3f}; {faster:.2f} times as fast here, the engine alone"
    )
    yield from (f"warning: {warning}" for warning in report["warnings"])
