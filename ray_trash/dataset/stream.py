"""Batches of photos for a training worker: from memory, decoded once, or as a Ray Data stream.

Both sources give the same bytes for the same rows and transform, whichever worker asks and whatever the
source, so a run does not change when its photos no longer fit in memory. Letters: B photos, S side in pixels.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import pyarrow as pa
import ray.data
from numpy.typing import NDArray

from ray_trash.dataset.catalog import read_photo_bytes
from ray_trash.dataset.walk import photo_location
from ray_trash.errors import DataError, ImageError
from ray_trash.image.augment import Augmentation, augment_photo
from ray_trash.image.preprocess import Preprocessing, fit_photo, load_photo
from ray_trash.storage import Storage

Photo = NDArray[np.uint8]
Prepared = TypeVar("Prepared")
PREFETCH_BATCHES = 2
"""Batches prepared ahead of the one that is being trained on."""
READ_CPUS = 0.25
"""CPUs Ray reserves for one reading task; workers leave `cluster.capacity.READING_CPUS` to them."""
_LOADED = pa.schema([("pixels", pa.binary()), ("side", pa.int32()), ("error", pa.string())])


@dataclass(frozen=True)
class PhotoTable:
    """The photos of one side of the split, as arrays of equal length.

    Attributes:
        rows: Row numbers in the catalog.
        paths: Paths relative to the data root.
        labels: Class numbers.
        keys: What seeds each photo's augmentation.
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
    """What happens to a stored photo before it is a network's input.

    Attributes:
        preprocessing: The checkpoint's preprocessing.
        augmentation: What training draws; left out, the photo is only fitted to the square.
        seed: The run's seed.
        epoch: The epoch, from 0.
    """

    preprocessing: Preprocessing
    augmentation: Augmentation | None = None
    seed: int = 0
    epoch: int = 0

    def __call__(self, photo: Photo, key: int) -> Photo:
        """Turn a stored photo (h, w, 3) into an input (S, S, 3), both uint8."""
        if self.augmentation is None:
            return fit_photo(photo, self.preprocessing)
        return augment_photo(
            photo, self.augmentation, self.preprocessing, seed=self.seed, epoch=self.epoch, photo_key=key
        )


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
        """Index decoded photos.

        Args:
            blocks: Tables with `row`, `height`, `width`, `pixels`, kept as they are: views, no copies.
            n_threads: Threads that prepare batches.
        """
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
        self._root = root

    def batches(self, table: PhotoTable, batches: Sequence[NDArray[np.int64]], transform: Transform) -> Iterator[Photo]:
        """Yield the photos (B, S, S, 3) uint8 of each batch of positions in the table, in order.

        Raises:
            DataError: A photo that was fine when it was catalogued is not any more.
        """
        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        # One block a batch: Ray Data then hands out whole batches, whatever their sizes.
        blocks = [
            pa.table({"path": [table.paths[i] for i in positions], "key": table.keys[positions]})
            for positions in batches
        ]
        if not blocks:
            return
        stream = ray.data.from_arrow(blocks).map_batches(
            cast(Any, _load_block),  # Ray's own type for these functions knows no pyarrow
            fn_kwargs={"root": self._root, "transform": transform},
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=READ_CPUS,
        )
        tables = stream.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=PREFETCH_BATCHES)
        for block in cast("Iterable[pa.Table]", tables):
            problem = block.column("error")[0].as_py()
            if problem is not None:
                raise DataError(problem)
            side = block.column("side")[0].as_py()
            photos = [np.frombuffer(pixels.as_buffer(), dtype=np.uint8) for pixels in block.column("pixels")]
            yield np.stack(photos).reshape(-1, side, side, 3)


def photo_views(root: str, path: str, key: int, transforms: Sequence[Transform]) -> list[Photo]:
    """Read one photo and put it through several transforms, without Ray.

    Raises:
        DataError: The photo was fine when it was catalogued and is not any more.
    """
    storage = Storage.at(root)
    stored = _load(storage, path, transforms[0].preprocessing)
    return [transform(stored, key) for transform in transforms]


def _load(storage: Storage, path: str, preprocessing: Preprocessing) -> Photo:
    try:
        encoded = read_photo_bytes(storage.filesystem, photo_location(storage.path, path))
        return load_photo(encoded, preprocessing)
    except ImageError as error:
        raise DataError(
            f"{path}: changed since it was catalogued ({error.code}: {error}); "
            "restore the file, or start the run again to catalogue it anew"
        ) from error


def _load_block(block: pa.Table, *, root: str, transform: Transform) -> pa.Table:
    # Ray Data hands on no cause of an exception in a task, so what went wrong travels as a value.
    storage = Storage.at(root)
    try:
        photos = [
            transform(_load(storage, path, transform.preprocessing), key)
            for path, key in zip(block.column("path").to_pylist(), block.column("key").to_pylist(), strict=True)
        ]
    except DataError as error:
        return pa.table({"pixels": [b""], "side": [0], "error": [str(error)]}, schema=_LOADED)
    columns = {
        "pixels": [photo.tobytes() for photo in photos],
        "side": [photo.shape[0] for photo in photos],
        "error": [None] * len(photos),
    }
    return pa.table(columns, schema=_LOADED)
