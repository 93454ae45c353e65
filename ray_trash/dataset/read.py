"""A photo below a data root, read whole and decoded: the one way there is, for every stage."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import fs

from ray_trash.dataset.packed.form import read_manifest
from ray_trash.dataset.packed.photos import packed_photos
from ray_trash.dataset.packed.tables import TablePhotos, is_table, split_row_path
from ray_trash.dataset.walk import unescape_name
from ray_trash.errors import DataError, ImageError
from ray_trash.image.decode import MAX_FILE_BYTES
from ray_trash.image.preprocess import Preprocessing, load_photo
from ray_trash.storage import Storage

READERS = 8
"""Files of a remote folder that are read at a time: an object store takes longer to answer than to send a photo."""


@dataclass(frozen=True)
class PhotoFolder:
    """A data root, local or remote: a folder, a packed set, or Parquet files; goes to other processes as it is.

    Paths are relative to it, as a `Listing` has them.
    """

    storage: Storage
    packed_id: str | None = None

    @classmethod
    def at(cls, root: str) -> PhotoFolder:
        """Resolve a data root, and look whether there is a packed set; that there is nothing at all shows later.

        Raises:
            DataError: The packed set is damaged.
            StorageError: pyarrow knows no such filesystem, or it cannot be reached.
        """
        storage = Storage.at(root)
        if is_table(storage):
            return cls(Storage.of_file(root)[0])
        manifest = read_manifest(storage)
        return cls(storage, manifest.id if manifest else None)

    def read(self, path: str) -> bytes:
        """Read one photo's file whole: 1 to `MAX_FILE_BYTES` bytes.

        Raises:
            ImageError: It is empty, too large, no regular file, or cannot be read.
        """
        if self.packed_id is not None:
            encoded = packed_photos(self.storage.uri, self.packed_id).read(path)
        elif (row := split_row_path(path)) is not None:
            encoded = _table_photos(self.storage.uri).read(*row)
        else:
            encoded = self._read_file(path)
        _check_size(len(encoded))
        return encoded

    def read_many(self, paths: Sequence[str]) -> Iterator[bytes | ImageError]:
        """Read photos in the order given, as `read` does, or say why not; several at a time where they are remote."""
        if self.packed_id is not None:
            try:
                packed = packed_photos(self.storage.uri, self.packed_id)
            except ImageError as error:
                yield from (error for _ in paths)
            else:
                yield from map(_checked, packed.read_many(paths))
        elif self.storage.is_local or any(map(split_row_path, paths[:1])):
            yield from map(self._read_or_error, paths)
        else:
            yield from _ahead(self._read_or_error, paths)

    def _read_or_error(self, path: str) -> bytes | ImageError:
        try:
            return self.read(path)
        except ImageError as error:
            return error

    def _read_file(self, path: str) -> bytes:
        place = f"{self.storage.path.rstrip('/')}/{unescape_name(path)}"
        try:
            return _read_local(place) if self.storage.is_local else _read_remote(self.storage.filesystem, place)
        except (OSError, pa.ArrowException) as error:
            reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
            raise ImageError("unreadable", f"the file cannot be read: {reason}") from error

    def load(self, path: str, preprocessing: Preprocessing, *, sha256: str | None = None) -> NDArray[np.uint8]:
        """Read and decode a photo that was accepted before, as `load_photo` does.

        Raises:
            DataError: It is not what it was: it cannot be read, or its hash is another one than `sha256`, where given.
        """
        return _loaded(path, self._read_or_error(path), preprocessing, sha256)

    def load_many(self, paths: Sequence[str], preprocessing: Preprocessing) -> Iterator[NDArray[np.uint8]]:
        """Read and decode photos as `load` does, in the order given; they are read as `read_many` does."""
        for path, encoded in zip(paths, self.read_many(paths), strict=True):
            yield _loaded(path, encoded, preprocessing, None)


def _loaded(
    path: str, encoded: bytes | ImageError, preprocessing: Preprocessing, sha256: str | None
) -> NDArray[np.uint8]:
    try:
        if isinstance(encoded, ImageError):
            raise encoded
        if sha256 is not None and hashlib.sha256(encoded).hexdigest() != sha256:
            raise DataError(f"{path}: changed since it was catalogued; restore it, or run the command again")
        return load_photo(encoded, preprocessing)
    except ImageError as error:
        raise DataError(
            f"{path}: changed since it was catalogued ({error.code}: {error}); restore it, or run the command again"
        ) from error


def _read_local(path: str) -> bytes:
    # Looked at first: merely opening a pipe waits for a writer, and opening a device may do things.
    _check_regular(os.stat(path))
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        _check_regular(status)
        _check_size(status.st_size)
        return file.read(MAX_FILE_BYTES + 1)


def _read_remote(filesystem: fs.FileSystem, path: str) -> bytes:
    with filesystem.open_input_file(path) as file:
        _check_size(file.size())
        return bytes(file.read(MAX_FILE_BYTES + 1))


def _check_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ImageError("not_a_regular_file", "it is no regular file")


def _check_size(size_bytes: int) -> None:
    if size_bytes == 0:
        raise ImageError("empty_file", "the file is empty")
    if size_bytes > MAX_FILE_BYTES:
        raise ImageError(
            "too_large", f"the file has {size_bytes / 2**20:.0f} MiB, at most {MAX_FILE_BYTES >> 20} are read"
        )


def _checked(encoded: bytes | ImageError) -> bytes | ImageError:
    try:
        if not isinstance(encoded, ImageError):
            _check_size(len(encoded))
    except ImageError as error:
        return error
    return encoded


def _ahead(read: Callable[[str], bytes | ImageError], paths: Sequence[str]) -> Iterator[bytes | ImageError]:
    waiting = deque[Future[bytes | ImageError]]()
    with ThreadPoolExecutor(READERS, "read") as pool:
        try:
            for path in paths:
                waiting.append(pool.submit(read, path))
                if len(waiting) > READERS:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for photo in waiting:
                photo.cancel()


@lru_cache(maxsize=8)
def _table_photos(uri: str) -> TablePhotos:
    return TablePhotos(Storage.at(uri))
