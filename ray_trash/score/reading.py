"""From work to photos: bytes read, and decoded to the squares that the network sees.

Blocks of work in, encoded photos or squares out, a bad one as the error that names it. Knows no network and no Ray.

Letters in shapes: S side in pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ray_trash.dataset.catalog import read_photo_bytes
from ray_trash.dataset.walk import photo_location
from ray_trash.errors import ImageError
from ray_trash.image.preprocess import Preprocessing, fit_photo, load_photo
from ray_trash.score.inputs import BATCH_PHOTOS, WORK_SCHEMA, Source
from ray_trash.score.tables import PhotoTable, read_rows
from ray_trash.storage import Storage

TAKEN_SCHEMA = WORK_SCHEMA.append(pa.field("encoded", pa.large_binary()))
"""Work, and the bytes of photos that came from a table."""

READERS = 8
"""Files that are read at a time: an object store takes longer to answer than a photo takes to compute."""
MAX_DECODERS = 8
"""Photos that are decoded at a time, at most: more threads of one process wait for each other, and a photo of the
largest size takes a quarter of a gigabyte."""


def take_rows(block: pa.Table, *, sources: Sequence[Source]) -> Iterator[pa.Table]:
    """Read the photos that are in tables; files are left where they are.

    Args:
        block: `WORK_SCHEMA`, as `work_blocks` gives it.
        sources: What the work is of.

    Yields:
        Tables of `TAKEN_SCHEMA` with up to `BATCH_PHOTOS` rows.

    Raises:
        DataError: A table cannot be read.
    """
    table = sources[block["source"][0].as_py()].table
    if table is None:
        yield block.append_column(TAKEN_SCHEMA.field("encoded"), pa.nulls(len(block), pa.large_binary()))
        return
    yield from _take_rows(block, table)


def _take_rows(block: pa.Table, table: PhotoTable) -> Iterator[pa.Table]:
    rows = np.asarray(block["row"])
    for first, photos in read_rows(table, block["group"][0].as_py(), batch_rows=BATCH_PHOTOS):
        start, end = (int(place) for place in np.searchsorted(rows, [first, first + len(photos)]))
        if start < end:
            wanted = photos.take(pa.array(rows[start:end] - first))
            yield block.slice(start, end - start).append_column(TAKEN_SCHEMA.field("encoded"), wanted)


class PhotoReader:
    """Reads and decodes the photos of a block, several at a time; may be used by several threads."""

    def __init__(self, sources: Sequence[Source], *, decoders: int = 1) -> None:
        """Start threads.

        Args:
            sources: What the work is of.
            decoders: Photos decoded at a time.
        """
        self._sources = sources
        self._readers = ThreadPoolExecutor(READERS, "read")
        self._decoders = ThreadPoolExecutor(min(MAX_DECODERS, decoders), "decode")

    def read(self, block: pa.Table) -> Iterator[bytes | ImageError]:
        """Read the photos of a block (`TAKEN_SCHEMA`), in order."""
        columns = (block["source"].to_pylist(), block["place"].to_pylist(), block["encoded"])
        return self._readers.map(self._read_one, *columns)

    def prepare(self, block: pa.Table, preprocessing: Preprocessing) -> list[NDArray[np.uint8] | ImageError]:
        """Read and decode the photos of a block (`TAKEN_SCHEMA`), in order: (S, S, 3) each."""
        return list(self._decoders.map(lambda photo: _prepare_one(photo, preprocessing), self.read(block)))

    def close(self) -> None:
        """End the threads."""
        self._readers.shutdown(cancel_futures=True)
        self._decoders.shutdown(cancel_futures=True)

    def _read_one(self, source: int, place: str | None, encoded: pa.LargeBinaryScalar) -> bytes | ImageError:
        if place is None:
            return encoded.as_py() or ImageError("empty_file", "the row has no photo")
        storage = _opened(self._sources[source].root)
        try:
            return read_photo_bytes(storage.filesystem, photo_location(storage.path, place))
        except ImageError as error:
            return error


def _prepare_one(photo: bytes | ImageError, preprocessing: Preprocessing) -> NDArray[np.uint8] | ImageError:
    if isinstance(photo, ImageError):
        return photo
    try:
        return fit_photo(load_photo(photo, preprocessing), preprocessing)
    except ImageError as error:
        return error


@lru_cache(maxsize=64)
def _opened(root: str) -> Storage:
    # Connecting to an object store for every photo would take longer than reading it.
    return Storage.at(root)
