"""Unpack an archive from a stranger: regular files and folders, inside the target, within limits.

A `.zip` or `.tar.gz` goes in, files under an empty folder come out. Knows no data set.
"""

from __future__ import annotations

import gzip
import io
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from ray_trash.errors import DataError

SKIPPED_FOLDER = "__MACOSX"
"""Where macOS puts its own notes on every file."""

_CHUNK_BYTES = 1 << 20
_BROKEN_ARCHIVE_ERRORS = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    UnicodeDecodeError,
)
"""What Python's readers raise on damaged or unusual archives."""


@dataclass(frozen=True)
class UnpackLimits:
    """More than any photo set needs, less than hurts.

    Attributes:
        members: Files and folders.
        total_bytes: Of all files, unpacked.
        ratio: Unpacked bytes per byte of the archive; photos are hardly smaller packed.
    """

    members: int = 100_000
    total_bytes: int = 4 << 30
    ratio: float = 20.0


@dataclass(frozen=True)
class _Member:
    name: str
    is_folder: bool
    size_bytes: int
    content: IO[bytes]


def unpack(archive: Path, target: Path, limits: UnpackLimits = UnpackLimits()) -> None:
    """Unpack an archive into an empty folder.

    Args:
        archive: A zip or gzipped tar file, told by its first bytes.
        target: A folder that nobody else writes to.
        limits: When to stop.

    Raises:
        DataError: The archive is damaged, names a place outside the target, holds a link or a device,
            or is larger than the limits.
    """
    budget_bytes = min(limits.total_bytes, int(limits.ratio * archive.stat().st_size))
    try:
        for count, member in enumerate(_members(archive, budget_bytes), start=1):
            if count > limits.members:
                raise DataError(f"{archive}: holds more than {limits.members} files and folders")
            path = _safe_path(member.name, archive)
            if SKIPPED_FOLDER in path.parts:
                continue
            budget_bytes -= member.size_bytes
            if budget_bytes < 0:
                raise _too_large(archive)
            _write(member, target / path, archive)
    except _BROKEN_ARCHIVE_ERRORS as error:
        raise DataError(f"{archive}: the archive is damaged: {error}") from error


def _members(archive: Path, budget_bytes: int) -> Iterator[_Member]:
    with archive.open("rb") as file:
        magic = file.read(4)
    if magic in (b"PK\x03\x04", b"PK\x05\x06"):
        return _zip_members(archive)
    if magic[:2] == b"\x1f\x8b":
        return _tar_members(archive, budget_bytes)
    raise DataError(f"{archive}: neither a zip nor a tar.gz file")


def _zip_members(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as packed:
        for info in packed.infolist():
            if info.flag_bits & 1:
                raise DataError(f"{archive}: {info.filename!r} is encrypted")
            # The upper half holds Unix's mode, or nothing where the archive comes from elsewhere.
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _no_plain_file(archive, info.filename)
            with packed.open(info) as content:
                yield _Member(info.filename, info.is_dir(), info.file_size, content)


def _tar_members(archive: Path, budget_bytes: int) -> Iterator[_Member]:
    with (
        _CappedGzipFile(archive, budget_bytes) as unzipped,
        tarfile.open(fileobj=unzipped, mode="r|") as packed,
    ):
        for info in packed:
            if not (info.isreg() or info.isdir()):
                raise _no_plain_file(archive, info.name)
            content: IO[bytes] = packed.extractfile(info) or io.BytesIO()
            yield _Member(info.name, info.isdir(), info.size, content)


class _CappedGzipFile(gzip.GzipFile):
    """Stops at a bomb wherever it sits: in the tar file's headers and padding too."""

    def __init__(self, archive: Path, budget_bytes: int) -> None:
        super().__init__(archive, "rb")
        self._archive = archive
        # Headers and padding come on top of the files.
        self._left_bytes = 2 * budget_bytes + _CHUNK_BYTES

    def read(self, size: int | None = -1) -> bytes:
        chunk = super().read(_CHUNK_BYTES if size is None or size < 0 else size)
        self._left_bytes -= len(chunk)
        if self._left_bytes < 0:
            raise _too_large(self._archive)
        return chunk


def _safe_path(name: str, archive: Path) -> PurePosixPath:
    path = PurePosixPath(name)
    if (
        path.is_absolute()
        or ".." in path.parts
        or not path.parts
        or "\\" in name
        or "\0" in name
        or re.match("[A-Za-z]:", name)
    ):
        raise DataError(f"{archive}: {name!r} would be unpacked outside of the target")
    return path


def _write(member: _Member, path: Path, archive: Path) -> None:
    left_bytes = member.size_bytes
    try:
        if member.is_folder:
            path.mkdir(parents=True, exist_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            while chunk := member.content.read(_CHUNK_BYTES):
                left_bytes -= len(chunk)
                if left_bytes < 0:
                    raise DataError(f"{archive}: {member.name!r} is larger than the archive says")
                file.write(chunk)
    except (FileExistsError, NotADirectoryError) as error:
        raise DataError(f"{archive}: {member.name!r} is in it twice") from error
    if left_bytes:
        raise DataError(f"{archive}: {member.name!r} is shorter than the archive says")


def _no_plain_file(archive: Path, name: str) -> DataError:
    return DataError(f"{archive}: {name!r} is a link or a device; only files and folders are unpacked")


def _too_large(archive: Path) -> DataError:
    return DataError(f"{archive}: unpacks to far more than a set of photos; it is not unpacked")
