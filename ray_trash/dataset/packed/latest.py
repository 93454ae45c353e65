"""What was made for the keys that were asked for last."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Latest(Generic[Key, Value]):
    """Makes what is asked for, and keeps the last few; may be used by several threads."""

    def __init__(self, make: Callable[[Key], Value], most: int) -> None:
        """Keep so many."""
        self._make, self._most = make, most
        self._kept: OrderedDict[Key, Value] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Key) -> Value:
        """Return what there is of a key, or make it."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        # Made without the lock, perhaps twice: others need not wait for a remote answer.
        made = self._make(key)
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > self._most:
                # What is dropped is closed once nobody reads from it.
                self._kept.popitem(last=False)
        return made
