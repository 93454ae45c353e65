"""What a person can do after this process's command has ended before it was done."""

from __future__ import annotations

_WAYS_ON = [""]


def remember_way_on(text: str) -> None:
    """Note how to go on from here, in a sentence or two; an empty text where that is to start anew."""
    _WAYS_ON.append(text)


def way_on() -> str:
    """Return what was noted last, which is empty at first."""
    return _WAYS_ON[-1]
