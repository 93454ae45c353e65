"""The content of `audit.json` on one screen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from ray_trash.terminal.say import Terminal
from ray_trash.terminal.text import MOST_NAMED, counted, listed, printable, rejected_by_kind


def print_audit(document: Mapping[str, Any], terminal: Terminal) -> None:
    """Print what a person has to know, on about one screen; everything else is in `audit.json`."""
    sides = {name: side for name, side in document["splits"].items() if side["n"]}
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("class")
    for name in sides:
        table.add_column(name, justify="right")
    table.add_column("photos", justify="right")
    for label, n in document["balance"]["per_class"].items():
        # Text, not str: brackets in a folder's name are no markup.
        table.add_row(
            Text(printable(label)), *(str(side["per_class"].get(label, 0)) for side in sides.values()), str(n)
        )
    table.add_row("all", *(str(side["n"]) for side in sides.values()), str(document["counts"]["accepted"]))
    terminal.show(Group(table, Text(), *(Text(printable(line)) for line in audit_lines(document))))


def audit_lines(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the sentences below the table, which also stand alone in a log."""
    counts = document["counts"]
    yield (
        f"files: {counts['seen']} seen = {counts['accepted']} accepted + {counts['rejected']} rejected "
        f"+ {counts['ignored']} ignored"
    )
    if document["rejected"]:
        first = listed(f"{entry['path']} ({entry['reason']})" for entry in document["rejected"])
        yield f"{rejected_by_kind(document['rejected'])}; such as {first}"
    balance = document["balance"]
    if ratio := balance["largest_over_smallest"]:
        yield f"balance: the largest class has {ratio} times the photos of the smallest; {balance['handled_by']}"
    n_groups, n_plain = len(document["near_duplicates"]), document["uncompared"]
    groups = f"{counted(n_groups, 'group')} {'shows' if n_groups == 1 else 'show'}"
    plain = f"{counted(n_plain, 'photo')} {'has' if n_plain == 1 else 'have'}"
    yield (
        f"duplicates: {counted(len(document['exact_duplicates']), 'group')} of exact copies; "
        f"{groups} the same shot, {len(document['same_object'])} the same object; "
        f"{plain} too little detail to compare"
    )
    yield f"searched: {document['searched']}"
    for conflict in document["conflicts"][:MOST_NAMED]:
        labels = " and ".join(conflict["labels"])
        yield f"conflict: {' = '.join(conflict['paths'])} ({conflict['kind']}), labelled {labels}"
    if len(document["conflicts"]) > MOST_NAMED:
        yield f"conflict: {len(document['conflicts']) - MOST_NAMED} more in audit.json"
    yield from _leaks(document)
    for probe in document["probes"].values():
        low, high = probe["accuracy_ci95"]
        yield (
            f"probe: {probe['what']} alone: {probe['correct']}/{probe['n']} = {100 * probe['accuracy']:.0f} % "
            f"({100 * low:.0f} to {100 * high:.0f}), largest class {100 * probe['majority']:.0f} %: {probe['verdict']}"
        )
    if not document["probes"]:
        yield "probe: too few photos to probe for shortcuts"
    if suspects := document["suspects"]:
        named = [f"{entry['path']} ({entry['label']}, or {entry['suggested']}?)" for entry in suspects]
        yield f"label suspects: {listed(named)}"
    if kinds := Counter(outlier["kind"] for outlier in document["outliers"]):
        yield "outliers: " + ", ".join(f"{n} {kind.replace('_', ' ')}" for kind, n in kinds.items())
    for warning in document["warnings"]:
        yield f"warning: {warning}"


def _leaks(document: Mapping[str, Any]) -> Iterator[str]:
    for name, side in document["splits"].items():
        if side["twins_in_train"]:
            yield f"warning: {side['twins_in_train']} of {side['n']} {name} photos have a twin in train"
    across = [pair for pair in document["near_pairs"] if len({side for side in pair["splits"] if side}) > 1]
    if across:
        yield "across the split: " + listed(" ~ ".join(pair["paths"]) for pair in across)
