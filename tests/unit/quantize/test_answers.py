from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ray_trash.quantize.answers import ask_both, compare_answers, photos_per_s, why_refused
from ray_trash.terminal.quantization import quantization_lines


def answers(right: list[bool]) -> np.ndarray:
    """Answers to photos of class 0: sure of it, or sure of class 1."""
    return np.array([[0.9, 0.1] if one else [0.2, 0.8] for one in right])


def compared(by_float: list[bool], by_int8: list[bool]) -> dict:
    return compare_answers((answers(by_float), answers(by_int8)), np.zeros(len(by_float), np.int64))


def test_both_are_asked_about_the_same_photos_in_turn():
    asked: list[tuple[str, int]] = []
    done: list[int] = []

    def ask(name, share):
        def answer(squares):
            asked.append((name, len(squares)))
            return np.full((len(squares), 2), share)

        return answer

    batches = iter([np.zeros((3, 8, 8, 3), np.uint8), np.zeros((2, 8, 8, 3), np.uint8)])
    said = ask_both((ask("float", 0.5), ask("int8", 0.4)), batches, done.append)
    assert asked == [("float", 3), ("int8", 3), ("float", 2), ("int8", 2)]
    assert done == [3, 2]
    assert [(one.shape, one[0, 0]) for one in said] == [((5, 2), 0.5), ((5, 2), 0.4)]


def test_speeds_are_of_the_same_few_photos_in_turn():
    asked: list[tuple[str, int]] = []

    def ask(name: str) -> Any:
        return lambda squares: asked.append((name, len(squares)))

    assert min(photos_per_s((ask("float"), ask("int8")), np.zeros((100, 8, 8, 3), np.uint8))) > 0
    assert asked == [("float", 32), ("int8", 32)] * 3


def test_a_comparison_counts_pairs_and_finds_the_largest_change():
    report = compared([True] * 9 + [False], [True] * 8 + [False, True])
    assert (report["n"], report["agree"]) == (10, 8)
    assert (report["float"]["correct"], report["int8"]["correct"]) == (9, 9)
    assert (report["only_float_right"], report["only_int8_right"]) == (1, 1)
    assert report["largest_change"] == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("lost", "max_loss_points", "why"),
    [
        (0, 0.0, None),
        (1, 0.5, None),
        (2, 1.0, None),
        (2, 0.5, r"loses 1\.00 points of accuracy, more than the 0\.5 of --max-loss"),
        (1, 0.0, "more than the 0 of --max-loss"),
        (12, 50.0, "significantly worse"),
    ],
)
def test_it_is_refused_where_it_loses_significantly_or_more_than_it_may(lost, max_loss_points, why):
    n = 200
    report = compared([True] * n, [True] * (n - lost) + [False] * lost)
    said = why_refused(report, max_loss_points=max_loss_points)
    if why is None:
        assert said is None
    else:
        with pytest.raises(AssertionError, match=why):
            raise AssertionError(said)


def test_one_that_is_significantly_better_is_not_refused():
    assert why_refused(compared([False] * 20, [True] * 20), max_loss_points=0.0) is None


def test_the_sentences_have_counts_intervals_the_test_and_speeds():
    report = compared([True] * 100, [True] * 99 + [False])
    report |= {"threads": 2, "warnings": ["some changed"]}
    report["float"] |= {"engine": "openvino float32 on cpu", "photos_per_s": 50.0}
    report["int8"] |= {"engine": "openvino int8 on cpu", "photos_per_s": 200.0}
    lines = list(quantization_lines(report))
    assert lines[0].startswith(
        "openvino float32 on cpu: 100/100 = 100.0 % of validation right (95 % interval 96.3 to 100.0"
    )
    assert "openvino int8 on cpu: 99/100" in lines[1]
    assert "200.0 photos/s on 2 threads" in lines[1]
    assert "difference: -1.0 points" in lines[2]
    assert "McNemar p = 1.000, not significant" in lines[2]
    assert "largest change of a probability 0.700; 4.00 times as fast here" in lines[3]
    assert lines[4] == "warning: some changed"
