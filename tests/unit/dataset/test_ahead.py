"""Threads that run ahead of whoever asks: in order, bounded, and gone when nobody asks any more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator

import pytest

from ray_trash.dataset.ahead import Belt, Part

SOON_S = 30.0
WHOLE = 4
"""Numbers that are made in one go, at most."""


class Numbers:
    """Makes numbers, and notes what was begun, what was made, and what was closed; holds before some until let go."""

    def __init__(self, *, breaks_at: int | None = None, holds_at: int | None = None) -> None:
        self.begun = list[list[int]]()
        self.closed = list[list[int]]()
        self.made = list[int]()
        self.changed = threading.Condition()
        self.go_on = threading.Event()
        self._breaks_at, self._holds_at = breaks_at, holds_at

    def part(self, *numbers: int, order: Callable[[list[int]], list[int]] = lambda places: places) -> Part[int]:
        """Make numbers, each in its place, one after the other in this order of places."""

        def make() -> Generator[tuple[int, int]]:
            self._note(self.begun, list(numbers))
            try:
                for place in order(list(range(len(numbers)))):
                    number = numbers[place]
                    if number == self._breaks_at:
                        raise LookupError(number)
                    if number == self._holds_at:
                        self.go_on.wait(SOON_S)
                    self._note(self.made, number)
                    yield place, number
            finally:
                self._note(self.closed, list(numbers))

        return Part(make, len(numbers), WHOLE)

    def _note(self, where: list, what: object) -> None:
        with self.changed:
            where.append(what)
            self.changed.notify_all()

    def wait_for(self, condition: Callable[[], bool]) -> bool:
        with self.changed:
            return self.changed.wait_for(condition, SOON_S)

    def stays(self, condition: Callable[[], bool], seconds: float = 0.05) -> bool:
        """Whether nothing comes for a moment that changes this."""
        with self.changed:
            return not self.changed.wait_for(lambda: not condition(), seconds)


def test_parts_come_as_one_sequence_whatever_the_order_in_which_their_items_are_made() -> None:
    numbers, belt = Numbers(), Belt[int]("numbers")
    parts = numbers.part(1, 2, 3, order=lambda places: places[::-1]), numbers.part(4), numbers.part(5, 6)
    assert list(belt.items(belt.put(parts), SOON_S)) == [1, 2, 3, 4, 5, 6]
    assert sorted(numbers.begun) == [[1, 2, 3], [4], [5, 6]]
    belt.close()


def test_nothing_begins_before_something_is_asked_for_and_then_what_is_to_come_first() -> None:
    numbers, belt = Numbers(holds_at=1), Belt[int]("numbers")
    later = belt.put([numbers.part(5)])
    asked = belt.put([numbers.part(1, 2, 3, 4)], first=True)
    assert numbers.stays(lambda: not numbers.begun)
    items = belt.items(asked, SOON_S)
    taker = threading.Thread(target=next, args=(items,))
    taker.start()
    assert numbers.wait_for(lambda: numbers.begun == [[1, 2, 3, 4]])
    assert numbers.stays(lambda: numbers.begun == [[1, 2, 3, 4]])
    numbers.go_on.set()
    taker.join(SOON_S)
    assert numbers.wait_for(lambda: [5] in numbers.begun)
    assert list(belt.items(later, SOON_S)) == [5]
    belt.close()


def test_the_next_part_begins_when_half_of_the_one_before_it_has_come_though_nobody_takes_it() -> None:
    numbers, belt = Numbers(holds_at=2), Belt[int]("numbers")
    places = belt.put([numbers.part(1, 2, 3, 4), numbers.part(5, 6)])
    items = belt.items(places, SOON_S)
    assert next(items) == 1
    assert numbers.stays(lambda: numbers.begun == [[1, 2, 3, 4]])
    numbers.go_on.set()
    assert numbers.wait_for(lambda: [5, 6] in numbers.begun)
    belt.close()


def test_what_nobody_takes_is_never_more_than_is_made_in_two_goes() -> None:
    numbers, belt = Numbers(), Belt[int]("numbers")
    places = belt.put([numbers.part(1, 2, 3, 4), numbers.part(5, 6, 7, 8), numbers.part(9, 10, 11, 12)])
    items = belt.items(places, SOON_S)
    assert [next(items) for _ in range(3)] == [1, 2, 3]
    assert numbers.wait_for(lambda: sorted(numbers.made) == [1, 2, 3, 4, 5, 6, 7, 8])
    assert numbers.stays(lambda: len(numbers.begun) == 2)
    assert next(items) == 4
    assert numbers.wait_for(lambda: [9, 10, 11, 12] in numbers.begun)
    assert list(items) == [5, 6, 7, 8, 9, 10, 11, 12]
    belt.close()


def test_what_is_dropped_makes_room_and_never_begins() -> None:
    numbers, belt = Numbers(), Belt[int]("numbers")
    asked, passed, wanted = (belt.put([numbers.part(*some)]) for some in ((1, 2), range(11, 19), (9,)))
    items = belt.items(asked, SOON_S)
    assert next(items) == 1
    # With the one that waits to be taken, the eight would be more than is made in two goes.
    assert numbers.stays(lambda: numbers.begun == [[1, 2]])
    belt.drop(passed)
    assert numbers.wait_for(lambda: [9] in numbers.begun)
    assert [*items, *belt.items(wanted, SOON_S)] == [2, 9]
    belt.close()


def test_an_error_comes_where_its_item_would_have() -> None:
    numbers, belt = Numbers(breaks_at=3), Belt[int]("numbers")
    items = belt.items(belt.put([numbers.part(1, 2, 3), numbers.part(4)]), SOON_S)
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(LookupError):
        next(items)
    belt.close()


def test_closing_ends_the_threads_and_begins_nothing_any_more() -> None:
    numbers, belt = Numbers(holds_at=2), Belt[int]("numbers")
    before = threading.active_count()
    items = belt.items(belt.put([numbers.part(1, 2, 3, 4, 5), numbers.part(6)]), SOON_S)
    assert next(items) == 1
    threading.Timer(0.1, numbers.go_on.set).start()
    belt.close()
    assert numbers.wait_for(lambda: numbers.closed == [[1, 2, 3, 4, 5]])
    assert numbers.begun == [[1, 2, 3, 4, 5]]
    assert threading.active_count() <= before + 1  # the timer's may still be ending


def test_waiting_has_a_deadline() -> None:
    numbers, belt = Numbers(holds_at=1), Belt[int]("numbers")
    with pytest.raises(TimeoutError):
        next(belt.items(belt.put([numbers.part(1)]), 0.01))
    numbers.go_on.set()
    belt.close()
