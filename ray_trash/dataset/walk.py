r"""Everything that lies under a folder, found without opening a file or following a folder link.

Paths are relative to the folder, with `/`, and always valid UTF-8: `escape_name` writes a byte of a
file name that is not UTF-8 as `\xNN`, and `unescape_name` leads back to the real name.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
from pyarrow import fs

from ray_trash.errors import DataError
from ray_trash.storage import Storage

Kind = Literal["file", "directory", "directory_link", "special", "outside", "unreadable"]
"""`special` is a pipe, socket or device, `outside` a link that leaves the folder."""


@dataclass(frozen=True)
class Entry:
    """One name below a folder; a link is of the kind that it leads to, unless that is a folder or outside.

    `size_bytes` is a file's, as the listing reports it; `message` what a person should know about an unusable kind.
    """

    path: str
    kind: Kind
    size_bytes: int = 0
    message: str = ""


def walk(storage: Storage) -> list[Entry]:
    """List everything under the data root, at any depth, sorted by path.

    Raises:
        DataError: The root is missing, no folder, or cannot be listed.
    """
    entries = _walk_local(storage) if storage.is_local else _walk_remote(storage)
    return sorted(entries, key=lambda entry: entry.path)


def escape_name(name: str) -> str:
    r"""Write a name, as Python reads it from the disk (PEP 383), as UTF-8, so that `unescape_name` gives it back.

    Bytes that are not UTF-8 become `\xNN`. A backslash that happens to stand before `xNN` becomes
    `\x5c`; every other name stays as it is.
    """
    plain = re.sub(r"\\(?=x[0-9a-f]{2})", r"\\x5c", name)
    return os.fsencode(plain).decode("utf-8", "backslashreplace")


def unescape_name(escaped: str) -> str:
    """Return the name that `escape_name` was given."""
    raw = re.sub(rb"\\x([0-9a-f]{2})", lambda match: bytes([int(match[1], 16)]), escaped.encode("utf-8"))
    return os.fsdecode(raw)


def _walk_local(storage: Storage) -> Iterator[Entry]:
    root = storage.path
    real_root = os.path.realpath(root)
    if not os.path.isdir(root):
        raise DataError(_no_root(storage.uri, exists=os.path.lexists(root)))
    folders = [""]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(os.path.join(root, folder)) as scan:
                found = list(scan)
        except OSError as error:
            if not folder:
                raise DataError(f"data.root: cannot list {root}: {error.strerror}") from error
            message = f"the folder cannot be listed: {error.strerror}"
            yield Entry(escape_name(folder), "unreadable", message=message)
            continue
        for entry in found:
            path = f"{folder}/{entry.name}" if folder else entry.name
            kind, size_bytes, message = _look_at(entry, real_root)
            if kind == "directory":
                folders.append(path)
            yield Entry(escape_name(path), kind, size_bytes, message)


def _look_at(entry: os.DirEntry[str], real_root: str) -> tuple[Kind, int, str]:
    try:
        status = entry.stat()
    except OSError as error:
        reason = "a link that leads nowhere" if entry.is_symlink() else error.strerror
        return "unreadable", 0, f"{reason}"
    if entry.is_symlink():
        target = os.path.realpath(entry.path)
        if os.path.commonpath([real_root, target]) != real_root:
            return "outside", 0, "a link to a place outside the data root"
        if stat.S_ISDIR(status.st_mode):
            return "directory_link", 0, "a link to a folder is not followed"
    if stat.S_ISDIR(status.st_mode):
        return "directory", 0, ""
    if not stat.S_ISREG(status.st_mode):
        return "special", 0, "a pipe, socket or device"
    return "file", status.st_size, ""


def _walk_remote(storage: Storage) -> Iterator[Entry]:
    try:
        infos = storage.filesystem.get_file_info(fs.FileSelector(storage.path, recursive=True))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DataError(_no_root(storage.uri, exists=False)) from error
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"data.root: cannot list {storage.uri}: {reason}") from error
    kinds: dict[fs.FileType, Kind] = {fs.FileType.File: "file", fs.FileType.Directory: "directory"}
    for info in infos:
        path = info.path.removeprefix(storage.path).strip("/")
        yield Entry(escape_name(path), kinds.get(info.type, "special"), info.size or 0)


def _no_root(uri: str, *, exists: bool) -> str:
    what = "is a file" if exists else "does not exist"
    return f"data.root: {uri} {what}; it must be a folder that holds one folder of photos per class"
