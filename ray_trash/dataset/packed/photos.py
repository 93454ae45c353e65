"""Single photos of a packed set, found by their paths: one read each, and neighbours in one.

Nothing grows with the set: what was looked up is kept for as many photos as fit a fixed number of index batches.
"""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Any

import pyarrow as pa

from ray_trash.dataset.packed.form import INDEX, Manifest, read_manifest
from ray_trash.dataset.packed.latest import Latest
from ray_trash.errors import DataError, ImageError, StorageError
from ray_trash.storage import Storage

LENGTH_BYTES = 4
"""Before each photo in a shard: its length, little-endian, as Parquet's plain encoding has it."""
RUN_BYTES, RUN_GAP_BYTES = 8 << 20, 64 << 10
"""Photos that lie within such a stretch of a shard, with no wider gap, are read together."""
RUNS_AT_ONCE, AHEAD_BYTES = 16, 32 << 20
"""Stretches of a remote shard that are asked for at a time, and how much of what was read may wait."""
_KEPT_BATCHES, _KEPT_FILES = 1024, 64


@dataclass(frozen=True)
class Place:
    """Where a photo's bytes are: its shard's number, where in the file they begin, and how many there are."""

    shard: int
    offset: int
    size_bytes: int

    @property
    def end(self) -> int:
        """Where the next one's begin at the earliest."""
        return self.offset + self.size_bytes


class PackedPhotos:
    """Reads the photos of one packed set; may be used by several threads."""

    def __init__(self, storage: Storage, manifest: Manifest) -> None:
        """Open nothing yet."""
        self._storage, self._manifest = storage, manifest
        self._batches: Latest[int, pa.RecordBatch] = Latest(self._read_batch, _KEPT_BATCHES)
        self._files: Latest[str, Any] = Latest(self._open, _KEPT_FILES)
        self._index: Latest[str, Any] = Latest(self._open_index, 1)
        self._lock = Lock()

    def locate(self, path: str) -> Place:
        """Find a photo; one that is not in the set is an `ImageError`."""
        number = bisect.bisect_right(self._manifest.batches, path) - 1
        if number >= 0:
            batch = self._batches.get(number)
            row = bisect.bisect_left(batch.column("path"), path, key=lambda value: value.as_py())
            if row < len(batch) and batch.column("path")[row].as_py() == path:
                return Place(*(batch.column(name)[row].as_py() for name in ("shard", "offset", "size_bytes")))
        raise ImageError("unreadable", "it is not in the packed set")

    def read(self, path: str) -> bytes:
        """Read one photo; one that is not in the set, or whose shard was changed, is an `ImageError`."""
        place = self.locate(path)
        return self._cut(self._read_run([place]), place.offset, place)

    def read_many(self, paths: Sequence[str]) -> Iterator[bytes | ImageError]:
        """Read photos in the order given, neighbours together, each as `read` does or with its error."""
        if self._storage.is_local:
            for run in self._runs(paths):
                yield from self._photos_of(run)
            return
        waiting: deque[tuple[int, Future[list[bytes | ImageError]]]] = deque()
        n_bytes = 0
        with ThreadPoolExecutor(RUNS_AT_ONCE, "packed") as pool:
            try:
                for run in self._runs(paths):
                    size_bytes = sum(place.size_bytes for place in run if isinstance(place, Place))
                    while waiting and (len(waiting) > RUNS_AT_ONCE or n_bytes + size_bytes > AHEAD_BYTES):
                        read_bytes, photos = waiting.popleft()
                        yield from photos.result()
                        n_bytes -= read_bytes
                    waiting.append((size_bytes, pool.submit(self._photos_of, run)))
                    n_bytes += size_bytes
                while waiting:
                    yield from waiting.popleft()[1].result()
            finally:
                for _, photos in waiting:
                    photos.cancel()

    def _runs(self, paths: Sequence[str]) -> Iterator[list[Place | ImageError]]:
        """Cut photos, in the order given, into those that are read together."""
        run: list[Place | ImageError] = []
        first = last = None
        for path in paths:
            try:
                place = self.locate(path)
            except ImageError as error:
                run.append(error)
                continue
            if first is not None and last is not None and not _together(first, last, place):
                yield run
                run, first = [], None
            run.append(place)
            first, last = first or place, place
        if run:
            yield run

    def _photos_of(self, run: Sequence[Place | ImageError]) -> list[bytes | ImageError]:
        places = [place for place in run if isinstance(place, Place)]
        try:
            content = self._read_run(places) if places else b""
            return [
                place if isinstance(place, ImageError) else self._cut(content, places[0].offset, place) for place in run
            ]
        except ImageError as error:
            return [place if isinstance(place, ImageError) else error for place in run]

    def _read_run(self, places: Sequence[Place]) -> memoryview:
        start = places[0].offset - LENGTH_BYTES
        try:
            file = self._files.get(self._manifest.shards[places[0].shard][0])
            return memoryview(file.read_at(places[-1].end - start, start))
        except (OSError, pa.ArrowException) as error:
            reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
            raise ImageError("unreadable", f"the shard cannot be read: {reason}") from error

    def _cut(self, content: memoryview | bytes, first_offset: int, place: Place) -> bytes:
        start = place.offset - first_offset + LENGTH_BYTES
        encoded = bytes(content[start : start + place.size_bytes])
        length = int.from_bytes(content[start - LENGTH_BYTES : start], "little")
        if length != place.size_bytes or len(encoded) != length:
            name = self._manifest.shards[place.shard][0]
            raise ImageError("unreadable", f"{name} is not the shard that was packed")
        return encoded

    def _open(self, name: str) -> Any:
        return self._storage.filesystem.open_input_file(f"{self._storage.path}/{name}")

    def _open_index(self, name: str) -> pa.RecordBatchFileReader:
        # A local index is mapped: what the processes of a machine look up is in its memory once.
        path = f"{self._storage.path}/{name}"
        return pa.ipc.open_file(pa.memory_map(path) if self._storage.is_local else self._open(name))

    def _read_batch(self, number: int) -> pa.RecordBatch:
        try:
            with self._lock:
                return self._index.get(INDEX).get_batch(number)
        except (OSError, pa.ArrowException) as error:
            reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
            raise ImageError("unreadable", f"the index of the packed set cannot be read: {reason}") from error


def _together(first: Place, last: Place, place: Place) -> bool:
    is_near = last.end <= place.offset <= last.end + RUN_GAP_BYTES
    return place.shard == first.shard and is_near and place.end - first.offset <= RUN_BYTES


@lru_cache(maxsize=8)
def packed_photos(uri: str, set_id: str) -> PackedPhotos:
    """Return this process's reader of a packed set; that there is none of that id any more is an `ImageError`."""
    storage = Storage.at(uri)
    try:
        manifest = read_manifest(storage)
    except (DataError, StorageError) as error:
        raise ImageError("unreadable", f"the packed set cannot be read: {error}") from error
    if manifest is None or manifest.id != set_id:
        raise ImageError("unreadable", "it is not the packed set that it was")
    return PackedPhotos(storage, manifest)
