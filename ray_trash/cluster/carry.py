"""A result or an error of ours across a Ray process border.

An exception that leaves a function that Ray calls arrives as another one; so ours travel as values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from ray_trash.errors import RayTrashError

Value = TypeVar("Value")


@dataclass(frozen=True)
class Carried(Generic[Value]):
    """What became of some work: its result, or the error that ended it."""

    result: Value | None
    error: RayTrashError | None = None

    def value(self) -> Value:
        """Return the result, or raise the error as it was raised over there."""
        if self.error is None:
            return cast(Value, self.result)
        try:
            raise self.error
        finally:
            # An error knows the frames that it went through, and a frame that knows it, too, would keep all that its
            # callers have, such as a checkpoint, until Python happens to look for cycles.
            del self


def carry(work: Callable[[], Value]) -> Carried[Value]:
    """Do some work and pack what becomes of it; what is not ours is raised here."""
    try:
        return Carried(work())
    except RayTrashError as error:
        return Carried(None, error)
