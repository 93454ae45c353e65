"""From work to photos: bytes read, and decoded to the squares that the network sees.

Blocks of work in, encoded photos or squares out; a bad photo is the error that names it, except where its digest is
known: it is another one then, which ends the scoring.

Letters in shapes: S side in pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ray_trash.dataset.packed.tables import read_rows
from ray_trash.dataset.read import PhotoFolder
from ray_trash.errors import ImageError
from ray_trash.image.mask import mask_photo
from ray_trash.image.preprocess import Preprocessing, fit_photo, load_photo
from ray_trash.score.inputs import Source
from ray_trash.score.work import BATCH_PHOTOS, WORK_SCHEMA

Square = NDArray[np.uint8]

READERS = 8
"""Files that are read at a time: an object store takes longer to answer than a photo takes to compute."""
MAX_DECODERS = 8
"""Photos that are decoded at a time, at most: more threads of one process wait for each other, and a photo of the
largest size takes a quarter of a gigabyte."""


def take_rows(block: pa.Table, *, sources: Sequence[Source]) -> Iterator[pa.Table]:
    """Read the photos of a block if they are in a table, `BATCH_PHOTOS` at a time; files are left where they are."""
    table = sources[block["source"][0].as_py()].table
    if table is None:
        yield block
        return
    rows, column = np.asarray(block["row"]), WORK_SCHEMA.get_field_index("encoded")
    for first, photos in read_rows(table, block["group"][0].as_py(), batch_rows=BATCH_PHOTOS):
        start, end = (int(place) for place in np.searchsorted(rows, [first, first + len(photos)]))
        if start < end:
            wanted = photos.take(pa.array(rows[start:end] - first))
            yield block.slice(start, end - start).set_column(column, WORK_SCHEMA.field(column), wanted)


def is_prepared(block: pa.Table) -> bool:
    """Say whether every row has its pixels or its error."""
    return bool(block["pixels"].null_count + block["error_code"].null_count == len(block))


def prepared_squares(block: pa.Table, preprocessing: Preprocessing) -> list[Square | ImageError]:
    """Return what a prepared block holds, in order: (S, S, 3) each."""
    shape = (preprocessing.size_px, preprocessing.size_px, 3)
    errors = zip(block["error_code"].to_pylist(), block["error_message"].to_pylist(), strict=True)
    return [
        ImageError(code, message) if code else np.frombuffer(pixels.as_buffer(), np.uint8).reshape(shape)
        for pixels, (code, message) in zip(block["pixels"], errors, strict=True)
    ]


class PhotoReader:
    """Reads and decodes the photos of a block, several at a time; may be used by several threads."""

    def __init__(self, sources: Sequence[Source], *, decoders: int = 1) -> None:
        """Start threads, so many of which decode."""
        self._sources = sources
        self._readers = ThreadPoolExecutor(READERS, "read")
        self._decoders = ThreadPoolExecutor(min(MAX_DECODERS, decoders), "decode")

    def read(self, block: pa.Table) -> Iterator[bytes | ImageError]:
        """Read the photos of a block of work, in order."""
        if not block["place"].null_count and len(set(block["source"].to_pylist())) == 1:
            folder = _folder(self._sources[block["source"][0].as_py()].root)
            if folder.packed_id is not None:
                return folder.read_many(block["place"].to_pylist())
        columns = (block["source"].to_pylist(), block["place"].to_pylist(), block["encoded"])
        return self._readers.map(self._read_one, *columns)

    def prepare(self, block: pa.Table, preprocessing: Preprocessing) -> list[Square | ImageError]:
        """Read and decode the photos of a block of work, in order: (S, S, 3) each.

        One whose digest is known and that is not what it was is a `DataError`.
        """
        if not block["sha256"].null_count:
            rows = block.select(["source", "place", "sha256", "mask"]).to_pylist()
            return list(self._decoders.map(lambda row: self._load_one(row, preprocessing), rows))
        return list(self._decoders.map(lambda photo: _prepare_one(photo, preprocessing), self.read(block)))

    def close(self) -> None:
        """End the threads."""
        self._readers.shutdown(cancel_futures=True)
        self._decoders.shutdown(cancel_futures=True)

    def _read_one(self, source: int, place: str | None, encoded: pa.LargeBinaryScalar) -> bytes | ImageError:
        if place is None:
            return encoded.as_py() or ImageError("empty_file", "the row has no photo")
        try:
            return _folder(self._sources[source].root).read(place)
        except ImageError as error:
            return error

    def _load_one(self, row: dict[str, Any], preprocessing: Preprocessing) -> Square:
        photo = _folder(self._sources[row["source"]].root).load(row["place"], preprocessing, sha256=row["sha256"])
        return mask_photo(fit_photo(photo, preprocessing), row["mask"], preprocessing)


def _prepare_one(photo: bytes | ImageError, preprocessing: Preprocessing) -> Square | ImageError:
    if isinstance(photo, ImageError):
        return photo
    try:
        return fit_photo(load_photo(photo, preprocessing), preprocessing)
    except ImageError as error:
        return error


@lru_cache(maxsize=64)
def _folder(root: str) -> PhotoFolder:
    # Connecting to an object store for every photo would take longer than reading it.
    return PhotoFolder.at(root)
