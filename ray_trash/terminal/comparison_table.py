"""A comparison on one screen, from what `compare` found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from ray_trash.terminal.say import Terminal
from ray_trash.terminal.text import counted, listed, p_value, percent, percents, points, printable


def print_comparison(document: Mapping[str, Any], terminal: Terminal) -> None:
    """Print a row per class, then the verdict and what differs; for commands, on stderr."""
    shown: list[Table | Text] = []
    if document.get("per_class"):
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("class", overflow="fold")
        for heading in ("photos", "A right", "B right", "B less A", "95 % interval"):
            table.add_column(heading, justify="right", no_wrap=True)
        for name, figures in document["per_class"].items():
            table.add_row(
                Text(printable(name)),
                str(figures["n"]),
                str(figures["a_correct"]),
                str(figures["b_correct"]),
                points(figures["difference"]),
                _interval(figures["difference_ci95"]),
            )
        shown += [table, Text()]
    terminal.show(Group(*shown, *(Text(printable(line)) for line in comparison_lines(document))))


def comparison_lines(document: Mapping[str, Any]) -> Iterator[str]:
    """Say a comparison in sentences: both sides, the verdict, what differs, warnings."""
    for name in ("a", "b"):
        side = document[name]
        words = f"{name.upper()}  {side['from']}" + (f" (model {side['model']})" if side["model"] else "")
        if "correct" in side:
            words += f": {side['correct']}/{document['n']} = {percent(side['accuracy'])} right, "
            words += f"95 % interval {percents(side['accuracy_ci95'])}"
        yield words
    yield f"same answer to {document['agree']} of {counted(document['n'], 'photo')}"
    if "difference" in document:
        yield verdict(document)
        for name, key in (("A", "only_a_right"), ("B", "only_b_right")):
            if document[key]:
                yield f"only {name} right: {counted(len(document[key]), 'photo')}, {_paths(document[key])}"
    if document["config"]:
        changes = (f"{key} {ours!r} and {theirs!r}" for key, (ours, theirs) in document["config"].items())
        yield f"the configs differ in {listed(changes)}"
    yield from (f"warning: {warning}" for warning in document["warnings"])


def verdict(document: Mapping[str, Any]) -> str:
    """Say in one sentence whether B is better than A."""
    gain = f"B less A: {points(document['difference'])} points (95 % interval {_interval(document['difference_ci95'])})"
    chance = f"McNemar {p_value(document['p_value'])}"
    if not document["significant"]:
        return f"{gain}, {chance}: no significant difference"
    return f"{gain}, {chance}: {'B' if document['difference'] > 0 else 'A'} is significantly better"


def _paths(photos: Sequence[Mapping[str, Any]]) -> str:
    return listed([photo["path"] for photo in photos])


def _interval(ends: Sequence[float]) -> str:
    return f"{points(ends[0])} to {points(ends[1])}"
