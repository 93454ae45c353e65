"""A photo below a data root, read whole and decoded: the one way there is, for every stage."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import fs

from ray_trash.dataset.walk import unescape_name
from ray_trash.errors import DataError, ImageError
from ray_trash.image.decode import MAX_FILE_BYTES
from ray_trash.image.preprocess import Preprocessing, load_photo
from ray_trash.storage import Storage


@dataclass(frozen=True)
class PhotoFolder:
    """A data root, local or remote; goes to other processes as it is.

    Paths are relative to it, as `walk` writes them.
    """

    storage: Storage

    @classmethod
    def at(cls, root: str) -> PhotoFolder:
        """Resolve a data root; nothing is contacted. It is a `StorageError` if pyarrow knows no such filesystem."""
        return cls(Storage.at(root))

    def read(self, path: str) -> bytes:
        """Read one file whole: 1 to `MAX_FILE_BYTES` bytes.

        Raises:
            ImageError: It is empty, too large, no regular file, or cannot be read.
        """
        place = f"{self.storage.path.rstrip('/')}/{unescape_name(path)}"
        try:
            encoded = _read_local(place) if self.storage.is_local else _read_remote(self.storage.filesystem, place)
        except (OSError, pa.ArrowException) as error:
            reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
            raise ImageError("unreadable", f"the file cannot be read: {reason}") from error
        _check_size(len(encoded))
        return encoded

    def load(self, path: str, preprocessing: Preprocessing, *, sha256: str | None = None) -> NDArray[np.uint8]:
        """Read and decode a photo that was accepted before, as `load_photo` does.

        Raises:
            DataError: It is not what it was: it cannot be read, or its hash is another one than `sha256`, where given.
        """
        try:
            encoded = self.read(path)
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
