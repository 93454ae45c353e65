"""An evaluation on one screen, from the content of `evaluation.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from ray_trash.terminal.say import Terminal
from ray_trash.terminal.text import percent, percents, printable, rejected_by_kind

_CLASS_MIN_CHARACTERS = 16
"""What the names keep on a terminal that is too narrow for the table."""


def print_evaluation(document: Mapping[str, Any], terminal: Terminal) -> None:
    """Print a row per class, then the figures over all photos; for commands, on stderr."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    longest = max(len(printable(name)) for name in document["classes"])
    table.add_column("class", overflow="fold", min_width=min(longest, _CLASS_MIN_CHARACTERS))
    for heading in ("photos", "precision", "recall", "95 % interval", "F1"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name in document["classes"]:
        scores = document["per_class"][name]
        # Text, not str: brackets in a folder's name are no markup.
        table.add_row(
            Text(printable(name)),
            str(scores["n"]),
            _ratio(scores["precision"]),
            _ratio(scores["recall"]),
            _ratios(scores["recall_ci95"]),
            _ratio(scores["f1"]),
        )
    counts = document["counts"]
    summary = [
        f"accuracy {document['correct']}/{document['n']} = {percent(document['accuracy'])}, "
        f"95 % interval {percents(document['accuracy_ci95'])}",
        f"macro-F1 {document['macro_f1']:.3f}, loss {document['loss']:.3f}, ECE {_calibration_error(document)}",
        *_selective_lines(document),
        f"split {document['split']}, checkpoint {document['checkpoint']}",
        f"files: {counts['seen']} seen = {counts['accepted']} accepted "
        f"+ {counts['rejected']} rejected + {counts['ignored']} ignored",
        *([printable(rejected_by_kind(document["skipped"]))] if document["skipped"] else []),
        *(
            f"{name} hidden: {masked['correct']}/{masked['n']} = {percent(masked['accuracy'])}, {masked['verdict']}"
            for name, masked in document.get("masked", {}).items()
        ),
        *_unknown_lines(document),
        *(f"warning: {printable(warning)}" for warning in document["warnings"]),
    ]
    terminal.show(Group(table, Text(), *(Text(line) for line in summary)))


def _calibration_error(document: Mapping[str, Any]) -> str:
    if "ece_uncalibrated" not in document:
        return f"{document['ece']:.3f}"
    return f"{document['ece']:.3f} ({document['ece_uncalibrated']:.3f} without the temperature)"


def _selective_lines(document: Mapping[str, Any]) -> list[str]:
    if "selective" not in document:
        return []
    selective, n = document["selective"], document["n"]
    target, answered = selective["target_error"], selective["answered"]
    aim = "no target" if target is None else f"target {percent(target)}"
    said = f"answers {answered} of {n} ({percent(selective['coverage'])}), abstains on {n - answered}; wrong"
    if not answered:
        return [f"{said} - ({aim})"]
    wrong = f"{round(selective['error'] * answered)}/{answered} = {percent(selective['error'])}"
    return [f"{said} {wrong} (95 % interval {percents(selective['error_ci95'])}, {aim})"]


def _unknown_lines(document: Mapping[str, Any]) -> list[str]:
    if "unknown" not in document:
        return []
    unknown = document["unknown"]
    return [
        f"drawn pictures of no class: {unknown['abstained']}/{unknown['n']} = {percent(unknown['rate'])} "
        f"not answered, 95 % interval {percents(unknown['rate_ci95'])}"
    ]


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _ratios(ends: Sequence[float] | None) -> str:
    return "-" if ends is None else f"{ends[0]:.3f} to {ends[1]:.3f}"
