"""What two networks say of the same photos, and whether the second loses by it.

Letters in shapes: B photos of a batch, N photos, S side in pixels, C classes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_trash.compare.paired import Paired
from ray_trash.evaluate.metrics import wilson_interval

Ask = Callable[[NDArray[np.uint8]], NDArray[np.floating]]
"""From photos (B, S, S, 3) to the network's probabilities (B, C), before any temperature."""


_SPEED_PHOTOS, _SPEED_ROUNDS = 32, 3


def ask_both(
    asked: tuple[Ask, Ask], batches: Iterable[NDArray[np.uint8]], advance: Callable[[int], None]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ask both about each batch (B, S, S, 3): (N, C) of each; `advance` is told how many photos are done."""
    said: tuple[list[NDArray[np.floating]], list[NDArray[np.floating]]] = ([], [])
    for squares in batches:
        for ask, rows in zip(asked, said, strict=True):
            rows.append(ask(squares))
        advance(len(squares))
    first, second = (np.concatenate(rows).astype(np.float64) for rows in said)
    return first, second


def photos_per_s(asked: tuple[Ask, Ask], squares: NDArray[np.uint8]) -> tuple[float, float]:
    """Return how fast each engine is alone, on some photos (B, S, S, 3), the best of rounds in which they take turns.

    A machine that others use is never faster than it is.
    """
    seconds: tuple[list[float], list[float]] = ([], [])
    squares = squares[:_SPEED_PHOTOS]
    for _ in range(_SPEED_ROUNDS):
        for ask, taken in zip(asked, seconds, strict=True):
            started_s = time.perf_counter()
            ask(squares)
            taken.append(time.perf_counter() - started_s)
    first, second = (round(len(squares) / min(taken), 2) for taken in seconds)
    return first, second


def compare_answers(
    said: tuple[NDArray[np.float64], NDArray[np.float64]], labels: NDArray[np.integer]
) -> dict[str, Any]:
    """Compare what a float network and the int8 one made of it said, (N, C), of photos of the classes `labels` (N,).

    Returns:
        `n`, `agree` (the same class said); `float` and `int8` {correct, accuracy, accuracy_ci95}; `difference` of the
        accuracies (int8 less float, -1..1) with `difference_ci95`, `p_value` and `significant`; `only_float_right`,
        `only_int8_right`; `largest_change` of a probability, 0..1.
    """
    by_float, by_int8 = (probabilities.argmax(axis=1) for probabilities in said)
    paired = Paired.of(by_float == labels, by_int8 == labels)
    return {
        "n": paired.n,
        "agree": int((by_float == by_int8).sum()),
        "float": _side(paired.first, paired.n),
        "int8": _side(paired.second, paired.n),
        "difference": paired.difference,
        "difference_ci95": list(paired.difference_ci95),
        "p_value": paired.p_value,
        "significant": paired.is_significant,
        "only_float_right": paired.only_first,
        "only_int8_right": paired.only_second,
        "largest_change": float(np.abs(said[1] - said[0]).max()),
    }


def _side(correct: int, n: int) -> dict[str, Any]:
    return {"correct": correct, "accuracy": correct / n, "accuracy_ci95": list(wilson_interval(correct, n))}


def why_refused(report: dict[str, Any], *, max_loss_points: float) -> str | None:
    """Say why an int8 network, compared by `compare_answers`, is not to be used; None where it is."""
    loss_points = -100 * report["difference"]
    if loss_points > 0 and report["significant"]:
        return f"it is significantly worse (p = {report['p_value']:.2g})"
    # Of n photos, a share that is a whole number of them is not quite what was asked for in floats.
    if loss_points > max_loss_points + 1e-9:
        return f"it loses {loss_points:.2f} points of accuracy, more than the {max_loss_points:g} of --max-loss"
    return None
