"""Batches of photos for a training worker: from memory, decoded once, or as a Ray Data stream.

Both sources give the same bytes for the same rows and transform, whichever worker asks and whatever the
source, so a run does not change when its photos no longer fit in memory. Letters: B photos, S side in pixels.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ray_trash.cluster.blocks import Tasks, map_blocks
from ray_trash.cluster.shares import READ_TASK_CPUS
from ray_trash.config import AugmentConfig
from ray_trash.dataset.read import PhotoFolder
from ray_trash.image.augment import augment_photo
from ray_trash.image.preprocess import Preprocessing, fit_photo

Photo = NDArray[np.uint8]
Prepared = TypeVar("Prepared")
PREFETCH_BATCHES = 2
"""Batches prepared ahead of the one that is being trained on."""
_PIXELS = pa.schema([("pixels", pa.binary())])


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

    def __call__(self, photo: Photo, key: int) -> Photo:
        """Turn a stored photo (h, w, 3) into an input (S, S, 3), both uint8."""
        if self.augment is None:
            return fit_photo(photo, self.preprocessing)
        return augment_photo(photo, self.augment, self.preprocessing, seed=self.seed, epoch=self.epoch, photo_key=key)


def prepared_ahead(
    prepare: Callable[[NDArray[np.int64]], Prepared], batches: Iterable[NDArray[np.int64]], *, n_threads: int
) -> Iterator[Prepared]:
    """Yield what `prepare` makes of each batch of positions, in order, made by threads ahead of whoever asks."""
    pending: deque[Future[Prepared]] = deque()
    with ThreadPoolExecutor(n_threads, thread_name_prefix="photos") as pool:
        try:
            for positions in batches:
                pending.append(pool.submit(prepare, positions))
                if len(pending) > max(PREFETCH_BATCHES, n_threads):
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


class PhotoSource(Protocol):
    """Where a worker's photos come from."""

    def batches(self, table: PhotoTable, batches: Sequence[NDArray[np.int64]], transform: Transform) -> Iterator[Photo]:
        """Yield the photos (B, S, S, 3) uint8 of each batch of positions in the table, in order."""
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

    def batches(self, table: PhotoTable, batches: Sequence[NDArray[np.int64]], transform: Transform) -> Iterator[Photo]:
        """Yield the photos (B, S, S, 3) uint8 of each batch of positions in the table, in order."""

        def prepare(positions: NDArray[np.int64]) -> Photo:
            return np.stack([transform(self._photos[int(table.rows[i])], int(table.keys[i])) for i in positions])

        return prepared_ahead(prepare, batches, n_threads=self._n_threads)


class StreamedPhotos:
    """Photos read, decoded and transformed by Ray Data tasks every time they are asked for."""

    def __init__(self, root: str) -> None:
        """Read below a data root: a path or URI."""
        self._folder = PhotoFolder.at(root)

    def batches(self, table: PhotoTable, batches: Sequence[NDArray[np.int64]], transform: Transform) -> Iterator[Photo]:
        """Yield the photos (B, S, S, 3) uint8 of each batch of positions in the table, in order.

        Raises:
            DataError: A photo that was fine when it was catalogued is not any more.
            ClusterError: The next batch does not come in time.
        """
        # One block a batch: Ray Data then hands out whole batches, whatever their sizes.
        columns = ({"path": [table.paths[i] for i in positions], "key": table.keys[positions]} for positions in batches)
        blocks = [pa.table(values) for values in columns]
        if not blocks:
            return
        read = Tasks(partial(_read_block, folder=self._folder, transform=transform), _PIXELS, cpus=READ_TASK_CPUS)
        for block in map_blocks(blocks, read, what="the next photos", prefetch=PREFETCH_BATCHES):
            photos = [np.frombuffer(pixels.as_buffer(), dtype=np.uint8) for pixels in block["pixels"]]
            side_px = math.isqrt(len(photos[0]) // 3)
            yield np.stack(photos).reshape(-1, side_px, side_px, 3)


def _read_block(block: pa.Table, *, folder: PhotoFolder, transform: Transform) -> pa.Table:
    photos = [
        transform(folder.load(path, transform.preprocessing), key)
        for path, key in zip(block["path"].to_pylist(), block["key"].to_pylist(), strict=True)
    ]
    return pa.table({"pixels": [photo.tobytes() for photo in photos]}, schema=_PIXELS)
