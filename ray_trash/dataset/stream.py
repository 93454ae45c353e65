"""Batches of photos for a training worker: from memory, decoded once, or as a Ray Data stream.

Both sources give the same bytes for the same rows and transform, whichever worker asks and whatever the
source, so a run does not change when its photos no longer fit in memory. Letters: B photos, S side in pixels.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ray_trash.cluster.blocks import NO_ANSWER_S, Tasks, map_blocks, no_answer
from ray_trash.cluster.shares import ReadingPlan
from ray_trash.config import AugmentConfig
from ray_trash.dataset.ahead import Belt, Part, Place, prepared_ahead
from ray_trash.dataset.read import PhotoFolder
from ray_trash.image.augment import Change, augment_photo, draw_change
from ray_trash.image.preprocess import Preprocessing, fit_photo

Photo = NDArray[np.uint8]
Batches = Sequence[NDArray[np.int64]]
"""Positions in the table of one side of the split, batch by batch."""

PIECE_PHOTOS = 128
"""Photos that a task hands on at a time, whatever the batches, at most: each piece costs who asks some milliseconds. Of
many tasks and large photos fewer, so that each task makes two of what is read ahead in one go."""
FIRST_PIECE_PHOTOS = 32
"""Photos that each task hands on first, which somebody waits for, and the fewest of any other piece."""
EXPECTED = 3
"""Requests known in advance, at most: the training of an epoch, its validation, and the training of the next."""
_WHAT = "the next photos"
_PIECES = pa.schema(
    [pa.field("number", pa.int64(), nullable=False), pa.field("pixels", pa.large_binary(), nullable=False)]
)


@dataclass(frozen=True)
class PhotoTable:
    """The photos of one side of the split, as arrays of equal length; `rows` are numbers in the catalog.

    Labels are class numbers; `keys` seed each photo's augmentation, as `photo_keys` gives them.
    """

    rows: NDArray[np.int64]
    paths: tuple[str, ...]
    labels: NDArray[np.int64]
    keys: NDArray[np.uint64]

    def __len__(self) -> int:
        """Return how many photos there are."""
        return len(self.rows)


@dataclass(frozen=True)
class Transform:
    """What happens to a stored photo before it is a network's input; without `augment` it is only fitted."""

    preprocessing: Preprocessing
    augment: AugmentConfig | None = None
    seed: int = 0
    epoch: int = 0

    @property
    def side_px(self) -> int:
        """Side of the inputs, in pixels."""
        return (self.augment and self.augment.size_px) or self.preprocessing.size_px

    def __call__(self, photo: Photo, key: int) -> Photo:
        """Turn a stored photo (h, w, 3) into an input (S, S, 3), both uint8."""
        if self.augment is None:
            return fit_photo(photo, self.preprocessing)
        return augment_photo(photo, self.augment, self.preprocessing, seed=self.seed, epoch=self.epoch, photo_key=key)

    def draw(self, height: int, width: int, key: int) -> Change:
        """Draw what happens to a stored photo of so many pixels, where something is drawn."""
        assert self.augment is not None
        drawn = {"seed": self.seed, "epoch": self.epoch, "photo_key": key}
        return draw_change(height, width, self.augment, self.preprocessing, **drawn)


class PhotoSource(Protocol):
    """Where a worker's photos come from; whoever makes one closes it."""

    def batches(self, table: PhotoTable, batches: Batches, transform: Transform) -> Iterator[Photo]:
        """Yield the photos (B, S, S, 3) uint8 of each batch of positions in the table, in order."""
        ...

    def expect(self, table: PhotoTable, batches: Batches, transform: Transform) -> None:
        """Say what `batches` will be asked for next, or after what was said before."""
        ...

    def close(self) -> None:
        """Let go of what is prepared for nobody any more."""
        ...


class MemoryPhotos:
    """Stored photos held in memory, transformed by threads ahead of the training step."""

    def __init__(self, blocks: Sequence[pa.Table], *, n_threads: int) -> None:
        """Index decoded photos (`PIXELS_SCHEMA`), which are kept as they are: views, no copies."""
        self._photos: dict[int, Photo] = {}
        for block in blocks:
            for column in block.to_batches():
                rows, heights, widths = (column.column(name).to_pylist() for name in ("row", "height", "width"))
                for position, pixels in enumerate(column.column("pixels")):
                    view = np.frombuffer(pixels.as_buffer(), dtype=np.uint8)
                    self._photos[rows[position]] = view.reshape(heights[position], widths[position], 3)
        self._n_threads = n_threads

    def stored(self, table: PhotoTable) -> list[Photo]:
        """Return the photos of a table as they are kept, (height, width, 3) each."""
        return [self._photos[int(row)] for row in table.rows]

    def batches(self, table: PhotoTable, batches: Batches, transform: Transform) -> Iterator[Photo]:
        """Yield the photos (B, S, S, 3) uint8 of each batch of positions in the table, in order."""

        def prepare(positions: NDArray[np.int64]) -> Photo:
            return np.stack([transform(self._photos[int(table.rows[i])], int(table.keys[i])) for i in positions])

        return prepared_ahead(prepare, batches, n_threads=self._n_threads)

    def expect(self, table: PhotoTable, batches: Batches, transform: Transform) -> None:
        """Do nothing: the first batch is a moment away."""

    def close(self) -> None:
        """Do nothing: threads end with the batches they are for."""


class StreamedPhotos:
    """Photos read, decoded and transformed by Ray Data tasks ahead of whoever asks, every time they are asked for.

    Many photos are several executions of Ray Data, one after another, so that a trainer that is slow has no more than
    two of them wait in the object store. Photos that are expected begin to come with the last of those that are asked
    for.
    """

    def __init__(self, root: str, plan: ReadingPlan) -> None:
        """Read below a data root: a path or URI."""
        self._folder, self._plan = PhotoFolder.at(root), plan
        self._belt = Belt[Photo](_WHAT)
        self._expected: list[tuple[_Request, list[Place[Photo]]]] = []

    def batches(self, table: PhotoTable, batches: Batches, transform: Transform) -> Generator[Photo]:
        """Yield the photos (B, S, S, 3) uint8 of each batch of positions in the table, in order.

        Raises:
            DataError: A photo that was fine when it was catalogued is not any more.
            ClusterError: The next batch does not come in time.
        """
        if not batches:
            return
        places = self._ask(_Request.of(table, batches, transform))
        pieces, piece, used = self._belt.items(places, NO_ANSWER_S), np.empty(0, np.uint8), 0
        try:
            for positions in batches:
                batch = np.empty((len(positions), transform.side_px, transform.side_px, 3), np.uint8)
                filled = 0
                while filled < len(batch):
                    if used == len(piece):
                        piece, used = next(pieces), 0
                    part = piece[used : used + len(batch) - filled]
                    batch[filled : filled + len(part)] = part
                    used, filled = used + len(part), filled + len(part)
                yield batch
        except TimeoutError as error:
            raise no_answer(_WHAT) from error
        finally:
            self._belt.drop(places)

    def expect(self, table: PhotoTable, batches: Batches, transform: Transform) -> None:
        """Say what `batches` will be asked for next, or after what was said before."""
        if not batches:
            return
        request = _Request.of(table, batches, transform)
        self._expected.append((request, self._put(request)))
        dropped, self._expected = self._expected[:-EXPECTED], self._expected[-EXPECTED:]
        for _, places in dropped:
            self._belt.drop(places)

    def close(self) -> None:
        """End what still runs for nobody."""
        self._belt.close()

    def _ask(self, asked: _Request) -> list[Place[Photo]]:
        for number, (request, places) in enumerate(self._expected):
            if request.is_same(asked):
                passed, self._expected = self._expected[:number], self._expected[number + 1 :]
                for _, others in passed:
                    self._belt.drop(others)
                return places
        return self._put(asked, first=True)

    def _put(self, request: _Request, *, first: bool = False) -> list[Place[Photo]]:
        n_ahead = self._plan.ahead_bytes // _photo_bytes(request.transform)
        size = min(PIECE_PHOTOS, max(FIRST_PIECE_PHOTOS, n_ahead // (2 * self._plan.tasks)))
        n_whole = max(2, self._plan.tasks, n_ahead // size)
        firsts, others = np.split(request.positions, [FIRST_PIECE_PHOTOS * self._plan.tasks])
        pieces = [*_cut(firsts, FIRST_PIECE_PHOTOS), *_cut(others, size)]
        executions = (pieces[start : start + n_whole] for start in range(0, len(pieces), n_whole))
        parts = [Part(partial(self._read, request, some), len(some), n_whole) for some in executions]
        return self._belt.put(parts, first=first)

    def _read(self, request: _Request, pieces: list[NDArray[np.int64]]) -> Generator[tuple[int, Photo]]:
        table, transform = request.table, request.transform
        n_tasks = min(self._plan.tasks, len(pieces))
        # Dealt out in turn, so that what is asked for next is what all tasks make next. No task follows another: Ray
        # Data looks after them ten times a second, and until then a processor would wait.
        blocks = [
            _paths_of(table, pieces[first::n_tasks], np.arange(first, len(pieces), n_tasks)) for first in range(n_tasks)
        ]
        tasks = Tasks(
            partial(read_pieces, folder=self._folder, transform=transform),
            _PIECES,
            cpus=self._plan.cpus,
            at_once=n_tasks,
        )
        # Whoever waits has the deadline, and the belt takes no more than may wait.
        read = map_blocks(
            blocks,
            tasks,
            what=_WHAT,
            in_order=False,
            block_bytes=_photo_bytes(transform),
            holds_back=False,
            no_answer_s=None,
        )
        with closing(read):
            for block in read:
                for number, piece in zip(block["number"].to_pylist(), block["pixels"], strict=True):
                    pixels = np.frombuffer(piece.as_buffer(), dtype=np.uint8)
                    yield number, pixels.reshape(-1, transform.side_px, transform.side_px, 3)


@dataclass(frozen=True, eq=False)
class _Request:
    """Batches of photos that somebody asks for, or will."""

    table: PhotoTable
    sizes: list[int]
    positions: NDArray[np.int64]
    transform: Transform

    @classmethod
    def of(cls, table: PhotoTable, batches: Batches, transform: Transform) -> _Request:
        return cls(table, [len(batch) for batch in batches], np.concatenate(batches), transform)

    def is_same(self, other: _Request) -> bool:
        return (
            (self.table is other.table)
            and (self.transform, self.sizes) == (other.transform, other.sizes)
            and np.array_equal(self.positions, other.positions)
        )


def _paths_of(table: PhotoTable, pieces: Sequence[NDArray[np.int64]], numbers: NDArray[np.int64]) -> pa.Table:
    """Say what photos a task reads for the pieces of these numbers."""
    positions = np.concatenate(pieces)
    columns = {"path": [table.paths[i] for i in positions], "key": table.keys[positions]}
    return pa.table({"number": np.repeat(numbers, [len(piece) for piece in pieces]), **columns})


def read_pieces(block: pa.Table, *, folder: PhotoFolder, transform: Transform) -> Iterator[pa.Table]:
    """Read, decode and transform photos, to tables of one row: a piece's number and its pixels.

    `block` has a row for each photo: its `path`, its `key`, and the `number` of its piece, in which pieces follow one
    another.
    """
    numbers, paths, keys = (block[name].to_pylist() for name in ("number", "path", "key"))
    photos = folder.load_many(paths, transform.preprocessing)
    for number, rows in groupby(range(len(paths)), key=numbers.__getitem__):
        drawn = [keys[row] for row in rows]
        pixels = np.empty((len(drawn), transform.side_px, transform.side_px, 3), np.uint8)
        for place, key in zip(pixels, drawn, strict=True):
            place[...] = transform(next(photos), key)
        offsets = pa.py_buffer(np.array([0, pixels.nbytes], np.int64))
        column = pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, pa.py_buffer(pixels.reshape(-1))])
        yield pa.table({"number": [number], "pixels": column}, schema=_PIECES)


def _photo_bytes(transform: Transform) -> int:
    return 3 * transform.side_px**2


def _cut(positions: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    return [positions[start : start + size] for start in range(0, len(positions), size)]
