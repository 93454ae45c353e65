"""Threads that run ahead of whoever asks: in order, bounded, and gone when nobody asks any more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator

import pytest

from ray_trash.dataset.ahead import Part, Sequel

SOON_S = 30.0


class Numbers:
    """Parts of numbers that note what was begun, what was made, and what was closed."""

    def __init__(self, *parts: list[int], breaks_at: int | None = None) -> None:
        self.begun = list[list[int]]()
        self.closed = list[list[int]]()
        self.made = list[int]()
        self.changed = threading.Condition()
        self._breaks_at = breaks_at
        self.parts = [Part(self._begin(numbers), len(numbers)) for numbers in parts]

    def _begin(self, numbers: list[int]) -> Callable[[], Generator[int]]:
        def make() -> Generator[int]:
            self._note(self.begun, numbers)
            try:
                for number in numbers:
                    if number == self._breaks_at:
                        raise LookupError(number)
                    self._note(self.made, number)
                    yield number
            finally:
                self._note(self.closed, numbers)

        return make

    def _note(self, where: list, what: object) -> None:
        with self.changed:
            where.append(what)
            self.changed.notify_all()

    def wait_for(self, condition: Callable[[], bool]) -> bool:
        with self.changed:
            return self.changed.wait_for(condition, SOON_S)


def sequel_of(
    numbers: Numbers, *, n_ready: int = 2, n_last: int = 1, then: Callable[[], None] = lambda: None
) -> Sequel:
    return Sequel(numbers.parts, n_ready=n_ready, n_last=n_last, then=then, name="numbers")


def test_parts_come_as_one_sequence_and_what_follows_begins_once() -> None:
    numbers, followed = Numbers([1, 2, 3], [4], [5, 6]), []
    sequel = sequel_of(numbers, then=lambda: followed.append("then"))
    assert list(sequel.items(SOON_S)) == [1, 2, 3, 4, 5, 6]
    assert sorted(numbers.begun) == [[1, 2, 3], [4], [5, 6]]
    assert followed == ["then"]
    sequel.close()


def test_what_nobody_takes_is_bounded_and_the_next_part_waits_for_the_end_of_the_first() -> None:
    numbers = Numbers([1, 2, 3, 4, 5, 6], [7, 8])
    sequel = sequel_of(numbers)
    sequel.begin()
    # Two wait to be taken, and the third for one of them to go.
    assert numbers.wait_for(lambda: numbers.made == [1, 2, 3])
    items = sequel.items(SOON_S)
    assert [next(items), next(items)] == [1, 2]
    assert numbers.wait_for(lambda: numbers.made == [1, 2, 3, 4, 5])
    assert numbers.begun == [[1, 2, 3, 4, 5, 6]]
    assert next(items) == 3
    # With one of the first part still to come, the second begins.
    assert numbers.wait_for(lambda: [7, 8] in numbers.begun)
    assert list(items) == [4, 5, 6, 7, 8]
    sequel.close()


def test_an_error_comes_where_its_item_would_have() -> None:
    numbers = Numbers([1, 2, 3], [4], breaks_at=3)
    items = sequel_of(numbers, n_ready=5, n_last=0).items(SOON_S)
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(LookupError):
        next(items)
    assert numbers.begun == [[1, 2, 3]]


def test_closing_ends_the_threads_and_begins_nothing_any_more() -> None:
    numbers = Numbers([1, 2, 3, 4, 5], [6])
    sequel = sequel_of(numbers)
    before = threading.active_count()
    items = sequel.items(SOON_S)
    assert next(items) == 1
    sequel.close()
    assert threading.active_count() == before
    assert numbers.closed == [[1, 2, 3, 4, 5]]
    sequel.begin()
    assert threading.active_count() == before


def test_waiting_has_a_deadline() -> None:
    hold = threading.Event()

    def make() -> Generator[int]:
        hold.wait(SOON_S)
        yield 1

    sequel = Sequel([Part(make, 1)], n_ready=1, n_last=0, then=lambda: None, name="numbers")
    with pytest.raises(TimeoutError):
        next(sequel.items(0.01))
    hold.set()
    sequel.close()
