"""What a model is not good at, in sentences: from the contents of `evaluation.json` and `audit.json`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ray_trash.terminal.text import counted, listed, percent, percents

FEW_PHOTOS = 10
"""With fewer photos of a class, its figures say next to nothing."""
UNKNOWN_LEFT = 0.9
"""Share of pictures of no class that it should at least leave unanswered."""


class Weakest(NamedTuple):
    """The class that is recognised least often; `taken_for` is what it is mostly said to be, None where it is right."""

    name: str
    correct: int
    n: int
    taken_for: str | None


def weakest_class(evaluation: Mapping[str, Any]) -> Weakest | None:
    """Return the class with the lowest recall, the first of equals; None where no class is below the others."""
    classes, confusion = evaluation["classes"], evaluation["confusion_matrix"]
    shares = {c: row[c] / sum(row) for c, row in enumerate(confusion) if sum(row)}
    if not shares or min(shares.values()) == max(shares.values()):
        return None
    worst = min(shares, key=lambda c: shares[c])
    wrong = [0 if c == worst else n for c, n in enumerate(confusion[worst])]
    taken_for = classes[wrong.index(max(wrong))] if any(wrong) else None
    return Weakest(classes[worst], confusion[worst][worst], sum(confusion[worst]), taken_for)


def limits_of(evaluation: Mapping[str, Any] | None, audit: Mapping[str, Any] | None) -> list[str]:
    """Say what is known against a model, the weightiest first; either source may be missing."""
    said = [] if evaluation is None else list(_of_evaluation(evaluation))
    return said + ([] if audit is None else list(_of_audit(audit)))


def shown_twice(n: int) -> str:
    """Say `3 photos that show`, to go on with what."""
    return f"{counted(n, 'photo')} that show{'s' if n == 1 else ''}"


def _of_evaluation(evaluation: Mapping[str, Any]) -> Iterator[str]:
    yield from evaluation.get("warnings", ())
    weakest = weakest_class(evaluation)
    if weakest is not None:
        taken = f", most often taken for {weakest.taken_for}" if weakest.taken_for else ""
        yield f"least good at {weakest.name}: {weakest.correct}/{weakest.n} recognised{taken}"
    few = [
        f"{name} ({of_class['n']})" for name, of_class in evaluation["per_class"].items() if of_class["n"] < FEW_PHOTOS
    ]
    if few:
        yield f"fewer than {FEW_PHOTOS} photos to judge by: {listed(few)}"
    for part, masked in evaluation.get("masked", {}).items():
        # One that an earlier version measured does not say which way its verdict goes.
        if masked.get("flagged", True):
            yield (
                f"with the {part} of every photo hidden {masked['correct']}/{masked['n']} = "
                f"{percent(masked['accuracy'])} are right: {masked['verdict']}"
            )
    unknown = evaluation.get("unknown")
    if unknown is not None and unknown["rate"] < UNKNOWN_LEFT:
        answered = unknown["n"] - unknown["abstained"]
        yield f"answers {answered} of {unknown['n']} drawn pictures that belong to no class"


def _of_audit(audit: Mapping[str, Any]) -> Iterator[str]:
    for probe in audit["probes"].values():
        if probe["flagged"]:
            yield (
                f"a classifier that sees only {probe['what']} is right on {probe['correct']}/{probe['n']} = "
                f"{percent(probe['accuracy'])} (95 % interval {percents(probe['accuracy_ci95'])}): {probe['verdict']}"
            )
    if audit["conflicts"]:
        yield f"{counted(len(audit['conflicts']), 'group')} of photos that show the same carry different labels"
    for side in ("val", "test"):
        twins = audit["splits"].get(side, {}).get("twins_in_train", 0)
        if twins:
            yield f"{side} has {shown_twice(twins)} what a training photo shows"
