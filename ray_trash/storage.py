"""A folder on any filesystem pyarrow opens: a local path, `s3://`, `gs://`.

Bytes and directory trees in and out, with writes that are there whole or not at all.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import fs

from ray_trash.errors import StorageError


@dataclass(frozen=True)
class Storage:
    """One folder, which need not exist yet, at `path` inside a filesystem; `uri` is absolute where it is local.

    What reads or writes raises `StorageError` where a file is missing, or storage is full, read-only or out of reach.
    """

    uri: str
    filesystem: fs.FileSystem
    path: str

    @classmethod
    def at(cls, uri: str | Path) -> Storage:
        """Resolve a path or URI; nothing is created or contacted.

        Raises:
            StorageError: pyarrow knows no such filesystem, or refuses the URI; or a local name is not UTF-8.
        """
        text = str(uri)
        if "://" not in text:
            absolute = os.path.abspath(os.path.expanduser(text))
            try:
                absolute.encode()
            except UnicodeEncodeError as error:
                shown = os.fsencode(absolute).decode("utf-8", "backslashreplace")
                raise StorageError(
                    f"{shown}: its name is not UTF-8, and such places are not opened; rename it"
                ) from error
            return cls(absolute, fs.LocalFileSystem(), absolute)
        try:
            filesystem, path = fs.FileSystem.from_uri(text)
        except (pa.ArrowException, ValueError, OSError) as error:
            raise StorageError(f"{text}: not a place that can be opened: {error}") from error
        return cls(text.rstrip("/"), filesystem, path.rstrip("/"))

    @classmethod
    def of_file(cls, uri: str | Path) -> tuple[Storage, str]:
        """Resolve a file's path or URI to its folder and its name there; nothing is created or contacted.

        Raises:
            StorageError: It names no file, or pyarrow cannot open such a place.
        """
        file = cls.at(uri)
        base, mark, query = file.uri.partition("?") if "://" in file.uri else (file.uri, "", "")
        folder, _, name = file.path.rpartition("/")
        if not name or (not folder and not file.is_local):
            raise StorageError(f"{uri}: not the name of a file")
        return cls((base.rpartition("/")[0] or "/") + mark + query, file.filesystem, folder), name

    @property
    def is_local(self) -> bool:
        """Whether the folder is on a filesystem of this machine."""
        return isinstance(self.filesystem, fs.LocalFileSystem)

    def local_path(self) -> Path:
        """Return the folder as a path; only for a local one."""
        assert self.is_local, f"{self.uri} is not local"
        return Path(self.path)

    def child(self, *parts: str) -> Storage:
        """Return a folder below this one."""
        # Only a URI has a query: in a local name a question mark is a letter like any other.
        base, mark, query = self.uri.partition("?") if "://" in self.uri else (self.uri, "", "")
        return Storage(
            "/".join([base.rstrip("/"), *parts]) + mark + query, self.filesystem, "/".join([self.path, *parts])
        )

    def exists(self, name: str = "") -> bool:
        """Say whether a file or folder is there; without a name, this folder."""
        with self._translated("read", name):
            info = self.filesystem.get_file_info(self._join(name))
        return bool(info.type != fs.FileType.NotFound)

    def read_bytes(self, name: str) -> bytes:
        """Read one file."""
        with self._translated("read", name), self.filesystem.open_input_file(self._join(name)) as file:
            return bytes(file.read())

    def write_bytes(self, name: str, data: bytes) -> None:
        """Write one file whole or not at all, with the folders above it."""
        with self._translated("write", name):
            if self.is_local:
                _write_atomically(Path(self._join(name)), data)
            else:
                # An object appears only once its upload has been closed.
                with self.filesystem.open_output_stream(self._join(name)) as file:
                    file.write(data)

    @contextmanager
    def writing(self, name: str) -> Iterator[Any]:
        """Open a file to be written piece by piece; it has its name only once the block has ended without an error."""
        folder, _, last = self._join(name).rpartition("/")
        temporary = f"{folder}/.{last}.unfinished"
        with self._translated("write", name):
            if self.is_local:
                Path(folder).mkdir(parents=True, exist_ok=True)
            try:
                with self.filesystem.open_output_stream(temporary) as file:
                    yield file
                if self.is_local:
                    with open(temporary, "rb") as written, _where_supported():
                        os.fsync(written.fileno())
                    replace(temporary, self._join(name))
                else:
                    self.filesystem.move(temporary, self._join(name))
            except BaseException:
                # Closing an object's upload keeps what there is of it, whatever ended the block.
                if self.filesystem.get_file_info(temporary).type != fs.FileType.NotFound:
                    self.filesystem.delete_file(temporary)
                raise
            if self.is_local:
                sync_directory(Path(folder))

    def list_names(self) -> list[str]:
        """List the names of the direct children, sorted; a missing folder has none."""
        with self._translated("list", ""):
            infos = self.filesystem.get_file_info(fs.FileSelector(self.path, allow_not_found=True))
        return sorted(info.base_name for info in infos)

    def remove(self, name: str) -> None:
        """Remove a file or a tree; one that is not there is fine."""
        with self._translated("remove", name):
            target = self._join(name)
            kind = self.filesystem.get_file_info(target).type
            if kind == fs.FileType.Directory:
                self.filesystem.delete_dir(target)
            elif kind != fs.FileType.NotFound:
                self.filesystem.delete_file(target)

    def upload(self, local: Path, name: str, *, last: str) -> None:
        """Copy a local tree here under a name, the file `last` after all others."""
        files = sorted(path.relative_to(local).as_posix() for path in local.rglob("*") if path.is_file())
        for file in sorted(files, key=lambda file: file == last):
            self.write_bytes(f"{name}/{file}", (local / file).read_bytes())

    def copy(self, source: str, target: str, *, last: str) -> None:
        """Copy a tree inside this folder, the file `last` after all others; an object store moves the bytes itself."""
        with self._translated("copy", source):
            base = self._join(source)
            infos = self.filesystem.get_file_info(fs.FileSelector(base, recursive=True))
            names = sorted(info.path[len(base) + 1 :] for info in infos if info.type == fs.FileType.File)
            for name in sorted(names, key=lambda name: name == last):
                if self.is_local:
                    Path(self._join(f"{target}/{name}")).parent.mkdir(parents=True, exist_ok=True)
                self.filesystem.copy_file(f"{base}/{name}", self._join(f"{target}/{name}"))

    def _join(self, name: str) -> str:
        return f"{self.path}/{name}" if name else self.path

    @contextmanager
    def _translated(self, action: str, name: str) -> Iterator[None]:
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            where = f"{self.uri}/{name}" if name else self.uri
            reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
            raise StorageError(f"{where}: cannot {action}: {reason}") from error


def _write_atomically(target: Path, data: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        # A file that this makes is readable for whom the user's umask says, without a change of its mode.
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            with _where_supported():
                os.fsync(file.fileno())
        replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(target.parent)


def replace(source: str | Path, target: str | Path) -> None:
    """Rename a local file, over another one if there is one."""
    try:
        os.replace(source, target)
    except OSError as error:
        if error.errno not in (*_NOT_SUPPORTED, errno.EEXIST) or not os.path.isfile(target):
            raise
        # Some file systems rename only to a name that is free.
        os.unlink(target)
        os.rename(source, target)


def sync_directory(directory: Path) -> None:
    """Make renames inside a local directory survive a power cut, where its file system can."""
    with _where_supported():
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def _where_supported() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:
            raise


_NOT_SUPPORTED = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EPERM, errno.EACCES, errno.EBADF)
"""How FAT, SMB, NFS and file systems in user space say that they do not do something, such as sync a folder."""
