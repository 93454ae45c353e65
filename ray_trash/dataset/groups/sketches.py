"""Sketches of many photos: what is small of them here, what is large where Ray keeps it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image

from ray_trash.cluster.tasks import cluster_cpus, run_tasks, task

if TYPE_CHECKING:
    import ray

    from ray_trash.cluster.here import Done

Reference: TypeAlias = "ray.ObjectRef[pa.Table] | Done[pa.Table]"

SUMMARY_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("pixels_key", pa.int64()),
        pa.field("n_points", pa.int32()),
        pa.field("corners", pa.binary()),
        pa.field("sharpness", pa.float32()),
        pa.field("contrast", pa.float32()),
        pa.field("dark_share", pa.float32()),
        pa.field("bright_share", pa.float32()),
    ]
)
"""What of `image.sketch.Sketch` takes some bytes, arrays in C order; `n_points` counts its keypoints. `pixels_key` is
equal for photos whose pixels are the same up to their places, and else different but for one chance in 2**64."""
KEYPOINTS_SCHEMA = pa.schema(
    [
        pa.field("points", pa.large_binary()),
        pa.field("descriptors", pa.large_binary()),
        pa.field("width_px", pa.int32()),
        pa.field("height_px", pa.int32()),
    ]
)
"""What photos are found by, some thirteen kilobytes: `size` as two numbers, arrays in C order."""
PICTURES_SCHEMA = pa.schema([pa.field("luma", pa.large_binary()), pa.field("thumbnail", pa.large_binary())])
"""What is left of how they look, nine kilobytes: arrays in C order."""
GROUP_PHOTOS = 8192
"""Sketches that one task reads: 110 MB of keypoints, 75 MB of pictures."""
_POINT_BYTES, _DESCRIPTOR_BYTES = 8, 128


class Details(NamedTuple):
    """What is large of the sketches of a block of photos: references to tables with a row for each.

    They are two, since most of what reads one of them has no use for the other, and where they do not fit into memory
    reading is what takes time.
    """

    keypoints: Reference
    """To a table of `KEYPOINTS_SCHEMA`."""
    pictures: Reference
    """To one of `PICTURES_SCHEMA`."""


@dataclass(frozen=True)
class Sketches:
    """Sketches of many photos, in the order of their rows. What is large of them stays in Ray's object store.

    Attributes:
        summary: `SUMMARY_SCHEMA`.
        blocks: Of photos that follow one another.
        starts: The position at which each block begins, (blocks + 1,); the last is the number of photos.
    """

    summary: pa.Table
    blocks: Sequence[Details]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        """Return how many photos there are."""
        return len(self.summary)

    def groups(self) -> Iterator[SketchGroup]:
        """Yield blocks that follow one another, as many as one task should read."""
        for blocks in _groups_of(np.diff(self.starts)):
            start, end = self.starts[[blocks.start, blocks.stop]].tolist()
            yield SketchGroup(start, end, self.blocks[blocks])

    def select(self, positions: NDArray[np.int64], columns: Sequence[str], *, what: str) -> list[Any]:
        """Copy some columns of some photos, at these sorted positions, in tasks that read no block without any of them.

        Returns:
            References to tables, in the order of the positions; they begin with a column `position`.
        """
        select = task(_select)
        schemas = {"keypoints": KEYPOINTS_SCHEMA, "pictures": PICTURES_SCHEMA}
        kinds = [kind for kind, schema in schemas.items() if not set(columns).isdisjoint(schema.names)]
        numbers, block_of = np.unique(np.searchsorted(self.starts, positions, side="right") - 1, return_inverse=True)
        lengths = np.diff(self.starts)[numbers]
        firsts = np.cumsum(lengths) - lengths
        rows = positions + (firsts - self.starts[numbers])[block_of]  # counted through the blocks that are read
        starts = []
        for group in _groups_of(lengths):
            inside = slice(*np.searchsorted(block_of, [group.start, group.stop]))
            tables = [getattr(self.blocks[number], kind) for kind in kinds for number in numbers[group]]
            taken = positions[inside], rows[inside] - firsts[group.start]
            starts.append(partial(select, *taken, tuple(columns), len(kinds), *tables))
        found: list[Any] = [None] * len(starts)
        for number, reference in run_tasks(starts, at_once=cluster_cpus(), what=what):
            found[number] = reference
        return found


class SketchGroup(NamedTuple):
    """Photos from `start` to before `end`, and where the details of them are."""

    start: int
    end: int
    blocks: Sequence[Details]


def _groups_of(lengths: NDArray[np.int64]) -> Iterator[slice]:
    """Cut blocks of these lengths into groups of at most `GROUP_PHOTOS`, or of one block."""
    ends = np.cumsum(lengths)
    first = 0
    while first < len(ends):
        most = ends[first] - lengths[first] + GROUP_PHOTOS
        last = max(first + 1, int(np.searchsorted(ends, most, side="right")))
        yield slice(first, last)
        first = last


def _select(
    positions: NDArray[np.int64], rows: NDArray[np.int64], columns: Sequence[str], n_kinds: int, *tables: pa.Table
) -> pa.Table:
    """Take rows of columns out of tables: all those of one kind, then all of the next, if there is one."""
    taken = {"position": pa.array(positions)}
    n_blocks = len(tables) // n_kinds
    for first in range(0, len(tables), n_blocks):
        blocks = tables[first : first + n_blocks]
        wanted = [name for name in columns if name in blocks[0].column_names]
        found = take_rows([block.select(wanted) for block in blocks], rows)
        taken |= dict(zip(wanted, found.columns, strict=True))
    return pa.table(taken).combine_chunks()


def take_rows(tables: Sequence[pa.Table], rows: NDArray[np.int64]) -> pa.Table:
    """Take sorted rows of some tables, counted through all of them.

    Arrow would first copy all that is in them, were they made one before.
    """
    ends = np.cumsum([0, *map(len, tables)])
    bounds = np.searchsorted(rows, ends)
    parts = zip(tables, ends[:-1], pairwise(bounds.tolist()), strict=True)
    return pa.concat_tables([table.take(pa.array(rows[slice(*part)] - start)) for table, start, part in parts])


def use_one_thread() -> None:
    """Have OpenCV sketch in this thread alone: there are as many tasks as processors, and its own take a tenth more."""
    import cv2

    cv2.setNumThreads(1)


def sketch_columns(image: Image.Image, photo: NDArray[np.uint8]) -> dict[str, Any]:
    """Sketch one photo as the columns of all three schemas, but for the row.

    `image` is the photo as it was decoded, mode RGB; `photo` (height, width, 3) what is kept of it.
    """
    # Only grouping needs OpenCV, so a process that merely reads photos does not import it.
    from ray_trash.image.sketch import sketch_photo

    values = vars(sketch_photo(photo))
    n_points = len(values["points"])
    width_px, height_px = values["size"]
    arrays = {name: value.tobytes() if isinstance(value, np.ndarray) else value for name, value in values.items()}
    sizes = {"n_points": n_points, "width_px": width_px, "height_px": height_px}
    return {"pixels_key": _pixels_key(image), **sizes, **arrays}


@dataclass(frozen=True)
class Keypoints:
    """The keypoints of many photos, one after the other. Letters: N photos, P points in all.

    Attributes:
        points: Positions (P, 2), float32, x and y in pixels.
        descriptors: SIFT descriptors (P, 128), uint8.
        starts: Where each photo's points begin, (N + 1,), int64; the last is P.
    """

    points: NDArray[np.float32]
    descriptors: NDArray[np.uint8]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        """Return how many photos there are."""
        return len(self.starts) - 1

    @property
    def owners(self) -> NDArray[np.int32]:
        """The photo of each point, (P,)."""
        return np.repeat(np.arange(len(self), dtype=np.int32), np.diff(self.starts))

    def of(self, photo: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Return the points and descriptors of one photo."""
        rows = slice(self.starts[photo], self.starts[photo + 1])
        return self.points[rows], self.descriptors[rows]


def keypoints_of(details: pa.Table) -> Keypoints:
    """Take the keypoints out of a table with their columns, in its order."""
    points, descriptors = (_joined(details[name]) for name in ("points", "descriptors"))
    starts = np.concatenate([[0], np.cumsum(_lengths(details["points"]) // _POINT_BYTES)]).astype(np.int64)
    return Keypoints(points.view(np.float32).reshape(-1, 2), descriptors.reshape(-1, _DESCRIPTOR_BYTES), starts)


def bytes_matrix(column: pa.ChunkedArray) -> NDArray[np.uint8]:
    """Return a column of equally long bytes as (photos, length), uint8."""
    return _joined(column).reshape(len(column), -1 if len(column) else 0)


def _lengths(column: pa.ChunkedArray) -> NDArray[np.int64]:
    return np.asarray(pc.binary_length(column), np.int64)


def _joined(column: pa.ChunkedArray) -> NDArray[np.uint8]:
    """Return all bytes of a column of bytes, one after the other; of a single chunk without a copy."""
    parts = []
    for chunk in column.cast(pa.large_binary()).chunks:
        if len(chunk):
            offsets = np.frombuffer(chunk.buffers()[1], np.int64)[chunk.offset : chunk.offset + len(chunk) + 1]
            parts.append(np.frombuffer(chunk.buffers()[2], np.uint8, offsets[-1] - offsets[0], offsets[0]))
    return parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, np.uint8), *parts])


def _pixels_key(image: Image.Image) -> int:
    # Counts of colours do not change when a photo is turned or mirrored, and Pillow counts them in C.
    counts = np.array([*sorted(image.size), *image.histogram()], np.int64)
    return int.from_bytes(hashlib.blake2b(counts.tobytes(), digest_size=8).digest(), "big", signed=True)
