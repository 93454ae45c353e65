"""What a benchmark has found: figures with their limits, printed for people and, in the last line, as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

NO_GPU = 6
"""The exit code where there is none to measure: that of `ray-trash` where there is not what was asked for."""


@dataclass(frozen=True)
class Figure:
    """One figure and what it may be.

    Attributes:
        at_most: The most it may be; `at_least` likewise. Default: it is only told.
        ours: What it is a ratio of, over `theirs`, both in `unit`.
    """

    what: str
    value: float
    unit: str = ""
    at_most: float | None = None
    at_least: float | None = None
    ours: float | None = None
    theirs: float | None = None

    @property
    def holds(self) -> bool:
        """Say whether it is within its limits."""
        # What is no number is within none.
        return not (
            (self.at_most is not None and not self.value <= self.at_most)
            or (self.at_least is not None and not self.value >= self.at_least)
        )

    def cells(self) -> list[str]:
        """Write the cells of a row, under `HEAD`."""
        limits = [("at most", self.at_most), ("at least", self.at_least)]
        limit = ", ".join(f"{word} {bound:g}" for word, bound in limits if bound is not None)
        sides = [f"{side:.5g}" if side is not None else "" for side in (self.ours, self.theirs)]
        verdict = "" if not limit else "pass" if self.holds else "FAIL"
        return [self.what, *sides, f"{self.value:.5g}", limit, self.unit, verdict]


HEAD = ["figure", "ours", "theirs", "value", "limit", "unit", ""]


def ratio(
    what: str,
    ours: float,
    theirs: float,
    unit: str = "photos/s",
    *,
    value: float | None = None,
    at_most: float | None = None,
    at_least: float | None = None,
) -> Figure:
    """Return one side over the other; `value` is the ratio where it was taken round by round."""
    quotient = ours / theirs if value is None else value
    return Figure(what, quotient, unit, at_most, at_least, ours, theirs)


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    """Lay out a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)


def conclude(figures: Iterable[Figure], details: Mapping[str, Any] | None = None) -> None:
    """Print the table of all figures, then `details` and figures as JSON; end with 1 where one is beyond its limit."""
    found = list(figures)
    sys.stdout.write(table(HEAD, [figure.cells() for figure in found]))
    failed = sum(not figure.holds for figure in found)
    sys.stdout.write(f"{failed} of {len(found)} figures are beyond their limits\n" if failed else "all hold\n")
    sys.stdout.write(json.dumps({**(details or {}), "figures": [asdict(figure) for figure in found]}) + "\n")
    sys.exit(1 if failed else 0)


def figures_in(stdout: str) -> list[Figure]:
    """Read the figures back from what a benchmark printed; none where it did not come to its end."""
    last = stdout.strip().rpartition("\n")[2]
    try:
        return [Figure(**figure) for figure in json.loads(last)["figures"]]
    except (ValueError, KeyError, TypeError):
        return []
