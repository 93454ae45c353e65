"""The verdict on the masks follows the intervals, not the bare figures."""

from __future__ import annotations

import numpy as np

from ray_trash.evaluate.masked import masked_accuracies
from ray_trash.evaluate.metrics import ClassificationSums


def sums(correct: int, n: int = 200) -> ClassificationSums:
    labels = np.arange(n) % 4
    predicted = np.where(np.arange(n) < correct, labels, (labels + 1) % 4)
    counted = ClassificationSums.zeros(4)
    counted.update(np.eye(4, dtype=np.float32)[predicted] * 0.9 + 0.025, labels)
    return counted


def test_a_network_that_looks_at_the_object_is_said_to() -> None:
    document = masked_accuracies(sums(190), border=sums(186), centre=sums(55))
    assert document["border"]["verdict"] == "what lies around the object hardly matters"
    assert "rest on the object" in document["centre"]["verdict"]
    assert (document["centre"]["correct"], document["centre"]["n"]) == (55, 200)
    assert not any(masked["flagged"] for masked in document.values())


def test_a_network_that_looks_at_the_background_is_called_out() -> None:
    document = masked_accuracies(sums(190), border=sums(100), centre=sums(150))
    assert document["border"]["verdict"].startswith("90 answers rest on what lies around")
    assert "the background tells the classes apart" in document["centre"]["verdict"]
    assert all(masked["flagged"] for masked in document.values())
