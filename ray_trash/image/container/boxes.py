"""The boxes of an ISO base media file. Source: ISO/IEC 14496-12, 4.2."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from ray_trash.image.container.layout import MAX_BLOCKS, Format, truncated, undecodable


class Box(NamedTuple):
    """One box: where its header begins, and its content from start to end."""

    kind: bytes
    header: int
    start: int
    end: int


class Reader:
    """Takes big-endian numbers from a box, one after the other."""

    def __init__(self, encoded: bytes, box: Box, name: Format) -> None:
        """Begin where the box's content does."""
        self._encoded, self._end, self._name = encoded, box.end, name
        self.position = box.start

    def take(self, n_bytes: int) -> int:
        """Take the next number."""
        start, self.position = self.position, self.position + n_bytes
        if self.position > self._end:
            raise undecodable(self._name, "a box ends in the middle of a number")
        return int.from_bytes(self._encoded[start : self.position], "big")

    def version(self) -> int:
        """Take what a full box begins with: its version and three bytes of flags."""
        return self.take(4) >> 24


def boxes_in(encoded: bytes, outer: Box, name: Format) -> Iterator[Box]:
    """Walk the boxes in another one, or in the file; it is an `ImageError` where one does not fit into it."""
    position = outer.start
    for _ in range(MAX_BLOCKS):
        if position >= outer.end:
            return
        if position + 8 > outer.end:
            break
        size, kind = struct.unpack_from(">I4s", encoded, position)
        start = position + 8
        if size == 1 and position + 16 <= outer.end:
            (size,) = struct.unpack_from(">Q", encoded, start)
            start += 8
        end = outer.end if size == 0 else position + size
        if end < start:
            raise undecodable(name, "a box is shorter than its own header")
        if end > outer.end:
            break
        yield Box(kind, position, start, end)
        position = end
    else:
        raise undecodable(name, f"it has more than {MAX_BLOCKS:,} boxes")
    if outer.end == len(encoded):
        raise truncated(name)
    raise undecodable(name, "a box reaches beyond the one that it is in")
