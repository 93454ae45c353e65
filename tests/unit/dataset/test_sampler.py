"""Which photos a worker sees: exact, and the same however many workers there are."""

from __future__ import annotations

import numpy as np
import pytest

from ray_trash.dataset.sampler import (
    batches_per_step,
    epoch_order,
    smallest_batch,
    step_sizes,
    steps_in_epoch,
    worker_batches,
    worker_rows,
)

LABELS = np.repeat([0, 1, 2], [20, 4, 1])


def order(epoch: int = 0, **changes: object) -> np.ndarray:
    arguments = {"seed": 1, "epoch": epoch, "n_draws": None, "balance": "none", **changes}
    return epoch_order(LABELS, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
@pytest.mark.parametrize("batch_size", [1, 4, 8, 64])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_every_photo_is_seen_exactly_once_an_epoch(workers: int, batch_size: int, accumulate: int) -> None:
    steps = steps_in_epoch(len(LABELS), batch_size * workers * accumulate, None, workers=workers)
    plans = [
        worker_batches(order(), steps=steps, rank=rank, workers=workers, accumulate=accumulate)
        for rank in range(workers)
    ]
    seen = np.concatenate([batch for plan in plans for parts in plan for batch in parts])
    assert sorted(seen) == list(range(len(LABELS)))
    assert {len(plan) for plan in plans} == {steps}
    assert all(len(batch) for plan in plans for parts in plan for batch in parts)


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 8])
@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_the_smallest_batch_is_known_beforehand(workers: int, batch_size: int, accumulate: int) -> None:
    for n_photos in range(workers, 40):
        steps = steps_in_epoch(n_photos, batch_size * workers * accumulate, None, workers=workers)
        photos = np.arange(n_photos)
        plans = [
            worker_batches(photos, steps=steps, rank=rank, workers=workers, accumulate=accumulate)
            for rank in range(workers)
        ]
        smallest = min(len(batch) for plan in plans for parts in plan for batch in parts)
        assert smallest_batch(n_photos, steps, workers=workers, accumulate=accumulate) == smallest


@pytest.mark.parametrize("workers", [2, 3])
def test_the_photos_of_a_step_do_not_depend_on_the_number_of_workers(workers: int) -> None:
    alone = worker_batches(order(), steps=4, rank=0, workers=1, accumulate=1)
    plans = [worker_batches(order(), steps=4, rank=rank, workers=workers, accumulate=1) for rank in range(workers)]
    for step, parts in enumerate(alone):
        together = np.concatenate([plan[step][0] for plan in plans])
        assert list(together) == list(parts[0])


def test_step_sizes_are_those_of_the_steps() -> None:
    parts = worker_batches(order(), steps=4, rank=0, workers=1, accumulate=1)
    assert step_sizes(len(LABELS), 4) == [len(part[0]) for part in parts]


def test_epochs_differ_and_repeat_with_their_number() -> None:
    assert list(order(0)) != list(order(1))
    assert list(order(3)) == list(order(3))


def test_more_draws_than_photos_begin_a_new_pass() -> None:
    drawn = order(n_draws=60)
    assert len(drawn) == 60
    assert set(np.bincount(drawn)) == {2, 3}


def test_the_balanced_sampler_draws_every_class_equally_often() -> None:
    drawn = order(balance="sampler", n_draws=30)
    assert list(np.bincount(LABELS[drawn])) == [10, 10, 10]


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
def test_every_validation_photo_belongs_to_one_worker(workers: int) -> None:
    rows = np.concatenate([worker_rows(25, rank=rank, workers=workers) for rank in range(workers)])
    assert sorted(rows) == list(range(25))


@pytest.mark.parametrize("most", [2, 3, 4])
@pytest.mark.parametrize("batch_size", [1, 3, 4])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_fewer_workers_share_the_same_steps_in_batches_no_larger(most: int, batch_size: int, accumulate: int) -> None:
    steps = steps_in_epoch(len(LABELS), batch_size * accumulate * most, None, workers=most)
    wanted = [sorted(step) for step in np.array_split(order(), steps)]
    largest = 0
    for workers in range(most, 0, -1):
        parts = batches_per_step(len(LABELS), steps, workers=workers, most=most, accumulate=accumulate)
        plans = [
            worker_batches(order(), steps=steps, rank=rank, workers=workers, accumulate=parts)
            for rank in range(workers)
        ]
        seen = [sorted(np.concatenate([batch for plan in plans for batch in plan[step]])) for step in range(steps)]
        assert seen == wanted
        found = max(len(batch) for plan in plans for batches in plan for batch in batches)
        if workers == most:
            assert parts == accumulate, "all of them train as a fixed number of them would"
            largest = found
        assert found <= largest
