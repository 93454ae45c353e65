from __future__ import annotations

import json
import math
from typing import get_args

import numpy as np
import pytest

from ray_trash.config import TrainConfig
from ray_trash.evaluate.metrics import (
    METRICS,
    VALIDATION_FIGURES,
    ClassificationSums,
    direction_of,
    validation_record,
    wilson_interval,
)


def random_batch(rng: np.random.Generator, n: int, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    probabilities = rng.dirichlet(np.full(n_classes, 0.4), n).astype(np.float32)
    return probabilities, rng.integers(0, n_classes, n)


def counted(probabilities, labels, n_classes: int) -> ClassificationSums:
    sums = ClassificationSums.zeros(n_classes)
    sums.update(probabilities, labels)
    return sums


def one_hot(classes: list[int], n_classes: int) -> np.ndarray:
    return np.eye(n_classes, dtype=np.float32)[classes]


def test_small_example_matches_numbers_computed_by_hand():
    probabilities = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.3, 0.5, 0.2]], np.float32)
    sums = counted(probabilities, np.array([0, 1, 1, 1]), 3)

    assert sums.confusion.tolist() == [[1, 0, 0], [1, 2, 0], [0, 0, 0]]
    assert (sums.n, sums.correct, sums.accuracy) == (4, 3, 0.75)
    assert sums.loss == pytest.approx(-(math.log(0.7) + math.log(0.3) + math.log(0.8) + math.log(0.5)) / 4)
    # F1: 2*1/(1+2) for class 0, 2*2/(3+2) for class 1; class 2 has no photos and does not count.
    assert sums.macro_f1 == pytest.approx((2 / 3 + 4 / 5) / 2)
    # Each confidence has a bin of its own: |1-0.7| + |0-0.6| + |1-0.8| + |1-0.5|, over 4.
    assert sums.ece == pytest.approx((0.3 + 0.6 + 0.2 + 0.5) / 4, abs=1e-6)
    scores = sums.per_class(["a", "b", "c"])
    assert scores["a"]["precision"] == 0.5
    assert scores["a"]["recall"] == 1.0
    assert scores["b"] == {
        "n": 3,
        "precision": 1.0,
        "recall": 2 / 3,
        "f1": 0.8,
        "recall_ci95": list(wilson_interval(2, 3)),
    }


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [
        # 95 % score intervals: Newcombe 1998, Statistics in Medicine 17, 857-872, table I.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_matches_published_values(k, n, low, high):
    assert wilson_interval(k, n) == pytest.approx((low, high), abs=5e-5)


def test_wilson_interval_ends_are_exact_where_all_or_none_are_right():
    assert wilson_interval(0, 7)[0] == 0.0
    assert wilson_interval(7, 7)[1] == 1.0


def test_wilson_interval_of_no_trials_is_refused():
    with pytest.raises(ValueError, match="0 successes of 0 trials"):
        wilson_interval(0, 0)


def test_random_batches_match_a_photo_by_photo_count():
    rng = np.random.default_rng(1)
    probabilities, labels = random_batch(rng, 500, 7)
    sums = counted(probabilities, labels, 7)

    confusion = [[0] * 7 for _ in range(7)]
    loss_sum = 0.0
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(15)]
    for row, label in zip(probabilities.astype(float).tolist(), labels.tolist(), strict=True):
        predicted = row.index(max(row))
        confusion[label][predicted] += 1
        loss_sum -= math.log(max(row[label], 1e-12))
        index = next(i for i in range(15) if i / 15 < max(row) <= (i + 1) / 15)
        bins[index].append((max(row), predicted == label))
    ece = sum(
        len(members)
        / 500
        * abs(
            sum(right for _, right in members) / len(members)
            - sum(confidence for confidence, _ in members) / len(members)
        )
        for members in bins
        if members
    )
    f1 = []
    for c in range(7):
        precision = confusion[c][c] / sum(confusion[r][c] for r in range(7))
        recall = confusion[c][c] / sum(confusion[c])
        f1.append(2 * precision * recall / (precision + recall) if confusion[c][c] else 0.0)

    assert sums.confusion.tolist() == confusion
    assert sums.loss == pytest.approx(loss_sum / 500, rel=1e-12)
    assert sums.ece == pytest.approx(ece, rel=1e-9)
    assert sums.macro_f1 == pytest.approx(sum(f1) / 7, rel=1e-12)


@pytest.mark.parametrize("cuts", [[], [1], [99], [10, 10, 50], [33, 66], list(range(100))])
def test_any_grouping_of_the_photos_merges_to_the_same_sums(cuts):
    probabilities, labels = random_batch(np.random.default_rng(2), 100, 4)
    whole = counted(probabilities, labels, 4)

    merged = ClassificationSums.zeros(4)
    for part, part_labels in zip(np.split(probabilities, cuts), np.split(labels, cuts), strict=True):
        merged.merge(counted(part, part_labels, 4))

    assert (merged.confusion == whole.confusion).all()
    assert (merged.bin_n == whole.bin_n).all()
    assert (merged.bin_correct == whole.bin_correct).all()
    assert merged.loss == pytest.approx(whole.loss, rel=1e-12)
    assert merged.ece == pytest.approx(whole.ece, rel=1e-12)


def test_vectors_of_several_workers_add_up_as_merging_does():
    rng = np.random.default_rng(3)
    parts = [counted(*random_batch(rng, n, 3), 3) for n in (17, 0, 5)]
    merged = ClassificationSums.zeros(3)
    for part in parts:
        merged.merge(part)

    reduced = ClassificationSums.from_array(np.sum([part.to_array() for part in parts], axis=0))

    assert reduced.confusion.dtype == np.int64
    np.testing.assert_array_equal(reduced.to_array(), merged.to_array())


def test_a_loss_computed_elsewhere_is_taken_as_given():
    sums = ClassificationSums.zeros(2)
    sums.update(one_hot([0, 1], 2), np.array([0, 0]), loss_sum=3.5)
    assert sums.loss == 1.75


def test_a_certain_mistake_costs_a_finite_loss():
    assert counted(one_hot([0], 2), np.array([1]), 2).loss == pytest.approx(-math.log(1e-12))


def test_confidences_on_the_borders_fall_into_the_lower_bin():
    confidences = np.array([1.0, 0.8, 0.6])  # 15/15, 12/15, 9/15
    sums = counted(np.stack([confidences, 1 - confidences], axis=1), np.zeros(3, int), 2)
    assert np.flatnonzero(sums.bin_n).tolist() == [8, 11, 14]


def test_a_tie_goes_to_the_first_class():
    assert counted(np.array([[0.5, 0.5]]), np.array([1]), 2).confusion.tolist() == [[0, 0], [1, 0]]


def test_undefined_ratios_are_none_and_the_rest_is_strict_json():
    # Class b is true but never predicted, c predicted but never true, d neither.
    sums = counted(one_hot([0, 0, 2], 4), np.array([0, 1, 0]), 4)
    scores = sums.per_class(["a", "b", "c", "d"])

    assert scores["b"]["precision"] is None
    assert (scores["b"]["recall"], scores["b"]["f1"]) == (0.0, 0.0)
    assert scores["c"] == {"n": 0, "precision": 0.0, "recall": None, "f1": 0.0, "recall_ci95": None}
    assert scores["d"] == {
        "n": 0,
        "precision": None,
        "recall": None,
        "f1": None,
        "recall_ci95": None,
    }
    assert sums.macro_f1 == pytest.approx((0.5 + 0.0) / 2)
    json.dumps(scores, allow_nan=False)


def test_a_nan_probability_shows_in_the_loss_after_merging_and_reducing():
    sums = counted(one_hot([0, 1], 2), np.array([0, 1]), 2)
    sums.merge(counted(np.array([[np.nan, np.nan]], np.float32), np.array([0]), 2))
    assert math.isnan(ClassificationSums.from_array(sums.to_array()).loss)
    assert math.isnan(sums.ece)


def test_ratios_of_no_photos_are_refused():
    sums = ClassificationSums.zeros(3)
    for name in ("accuracy", "accuracy_ci95", "loss", "ece", "macro_f1"):
        with pytest.raises(ValueError, match="no photo"):
            getattr(sums, name)


def test_an_empty_batch_changes_nothing():
    sums = counted(np.zeros((0, 3), np.float32), np.zeros(0, np.int64), 3)
    assert sums.n == 0
    assert sums.loss_sum == 0.0


@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        (np.ones((2, 4)), np.array([0, 1]), "expected probabilities"),
        (np.ones((2, 3)), np.array([0]), "expected probabilities"),
        (np.ones((1, 3)), np.array([3]), "labels must be 0..2"),
        (np.ones((1, 3)), np.array([-1]), "labels must be 0..2"),
    ],
)
def test_batches_that_do_not_fit_are_refused(probabilities, labels, message):
    with pytest.raises(ValueError, match=message):
        ClassificationSums.zeros(3).update(probabilities, labels)


def test_sums_over_other_classes_are_not_added():
    with pytest.raises(ValueError, match="cannot add 2 classes to 3"):
        ClassificationSums.zeros(3).merge(ClassificationSums.zeros(2))


def test_a_vector_of_another_length_is_refused():
    with pytest.raises(ValueError, match="no classification sums"):
        ClassificationSums.from_array(np.zeros(46 + 5))


def test_an_epochs_record_has_every_metric_of_validation_figures_first():
    sums = ClassificationSums.zeros(2)
    sums.update(np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), np.array([0, 1, 1]))
    record = validation_record(sums)
    assert list(record) == ["val_loss", "val_accuracy", "val_macro_f1", "val_n", "val_correct"]
    assert record == {key: getattr(sums, key.removeprefix("val_")) for key in record}
    assert tuple(record)[:3] == VALIDATION_FIGURES


@pytest.mark.parametrize("key", ["select_by", "monitor"])
def test_the_config_takes_the_metrics_that_may_select(key):
    names = set(get_args(TrainConfig.model_fields[key].annotation)) - {"last"}
    assert {name.removeprefix("val_") for name in names if name.startswith("val_")} == {
        name for name, metric in METRICS.items() if metric.can_select
    }
    assert [direction_of(name) for name in sorted(names)] == ["min", "min", "max"]
