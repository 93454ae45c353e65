"""What two networks say of the same photos, and whether the second loses by it.

Letters in shapes: B photos of a batch, N photos, S side in pixels, C classes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_trash.compare.paired import Paired
from ray_trash.evaluate.metrics import wilson_interval

Ask = Callable[[NDArray[np.uint8]], NDArray[np.floating]]
"""From photos (B, S, S, 3) to the network's probabilities (B, C), before any temperature."""


@dataclass(frozen=True)
class Answers:
    """What a network says: (N, C), before any temperature, and the seconds that its engine alone took."""

    probabilities: NDArray[np.float64]
    seconds: float

    @property
    def photos_per_s(self) -> float:
        """How fast the engine is, without reading and decoding."""
        return len(self.probabilities) / self.seconds


def ask_in_turn(first: Ask, second: Ask, batches: Iterator[NDArray[np.uint8]]) -> tuple[Answers, Answers]:
    """Ask both about each batch, one after the other: a machine whose speed drifts drifts for both."""
    said: tuple[list[NDArray[np.floating]], ...] = ([], [])
    seconds = [0.0, 0.0]
    for squares in batches:
        for number, ask in enumerate((first, second)):
            started_s = time.perf_counter()
            said[number].append(ask(squares))
            seconds[number] += time.perf_counter() - started_s
    ours, theirs = (np.concatenate(rows).astype(np.float64) for rows in said)
    return Answers(ours, seconds[0]), Answers(theirs, seconds[1])


def compare_answers(by_float: Answers, by_int8: Answers, labels: NDArray[np.integer]) -> dict[str, Any]:
    """Compare an int8 network with the one it was made of, on photos of the classes `labels` (N,).

    Returns:
        `n`, `agree` (the same class said); `float` and `int8` {correct, accuracy, accuracy_ci95, photos_per_s};
        `difference` of the accuracies (int8 less float, -1..1) with `difference_ci95`, `p_value` and `significant`;
        `only_float_right`, `only_int8_right`; `largest_change` of a probability, 0..1.
    """
    said = [answers.probabilities.argmax(axis=1) for answers in (by_float, by_int8)]
    paired = Paired.of(said[0] == labels, said[1] == labels)
    return {
        "n": paired.n,
        "agree": int((said[0] == said[1]).sum()),
        "float": _side(by_float, paired.first),
        "int8": _side(by_int8, paired.second),
        "difference": paired.difference,
        "difference_ci95": list(paired.difference_ci95),
        "p_value": paired.p_value,
        "significant": paired.is_significant,
        "only_float_right": paired.only_first,
        "only_int8_right": paired.only_second,
        "largest_change": float(np.abs(by_int8.probabilities - by_float.probabilities).max()),
    }


def _side(answers: Answers, correct: int) -> dict[str, Any]:
    n = len(answers.probabilities)
    return {
        "correct": correct,
        "accuracy": correct / n,
        "accuracy_ci95": list(wilson_interval(correct, n)),
        "photos_per_s": round(answers.photos_per_s, 2),
    }


def why_refused(report: dict[str, Any], *, max_loss_points: float) -> str | None:
    """Say why an int8 network, compared by `compare_answers`, is not to be used; None where it is."""
    loss_points = -100 * report["difference"]
    if loss_points > 0 and report["significant"]:
        return f"it is significantly worse (p = {report['p_value']:.2g})"
    # Of n photos, a share that is a whole number of them is not quite what was asked for in floats.
    if loss_points > max_loss_points + 1e-9:
        return f"it loses {loss_points:.2f} points of accuracy, more than the {max_loss_points:g} of --max-loss"
    return None
