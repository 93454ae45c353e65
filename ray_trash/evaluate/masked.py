"""What a checkpoint's answers rest on: its accuracy with the border of every photo hidden, and with the centre."""

from __future__ import annotations

from typing import Any

from ray_trash.evaluate.metrics import ClassificationSums

BACKGROUND_MARGIN = 0.10
"""How far above the largest class the accuracy without the centre must surely be to say that the background tells."""


def masked_accuracies(
    whole: ClassificationSums, *, border: ClassificationSums, centre: ClassificationSums
) -> dict[str, Any]:
    """Compare photos whose border, or whose centre is hidden with the whole ones.

    Each has figures and a `verdict`, and is `flagged` where that speaks against the answers.
    """
    lost = whole.correct - border.correct
    around = border.accuracy < whole.accuracy_ci95[0]
    says = "what lies around the object hardly matters"
    if around:
        says = f"{lost} answers rest on what lies around the object, or on objects that reach there"
    majority = int(whole.confusion.sum(axis=1).max()) / whole.n
    behind = centre.accuracy_ci95[0] > min(majority + BACKGROUND_MARGIN, (1 + majority) / 2)
    hides = "close to guessing: the answers rest on the object"
    if behind:
        hides = f"more than guessing ({100 * majority:.0f} %): the background tells the classes apart"
    return {"border": _figures(border, says, flagged=around), "centre": _figures(centre, hides, flagged=behind)}


def _figures(sums: ClassificationSums, verdict: str, *, flagged: bool) -> dict[str, Any]:
    return {
        "n": sums.n,
        "correct": sums.correct,
        "accuracy": sums.accuracy,
        "accuracy_ci95": list(sums.accuracy_ci95),
        "flagged": flagged,
        "verdict": verdict,
    }
