r"""Everything that lies under a folder, found without opening a file; where links are followed, no folder comes twice.

Paths are relative to the folder, with `/`, and always valid UTF-8: `escape_name` writes a byte of a
file name that is not UTF-8 as `\xNN`, and `unescape_name` leads back to the real name.
"""

from __future__ import annotations

import heapq
import os
import re
import stat
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import pyarrow as pa
from pyarrow import fs

from ray_trash.dataset.columns import table_of_rows
from ray_trash.dataset.names import is_system_name
from ray_trash.errors import DataError
from ray_trash.storage import Storage

_TOLD_EVERY = 1000

Kind = Literal["file", "directory", "directory_link", "loop", "repeat", "special", "outside", "unreadable"]
"""A `directory_link` is not followed, nor is a `loop`, to a folder that it is in, or a `repeat`, to one that is listed
elsewhere. `special` is a pipe, socket or device, `outside` a link that leaves the folder."""

ENTRY_SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("size_bytes", pa.int64(), nullable=False),
        pa.field("message", pa.string()),
    ]
)
"""One name below a folder each; a link that is followed is of the kind that it leads to. `size_bytes` is a file's, as
the listing reports it; `message` what a person should know about an unusable kind."""


class Entry(NamedTuple):
    """A row of `ENTRY_SCHEMA`."""

    path: str
    kind: Kind
    size_bytes: int = 0
    message: str | None = None


def walk(
    storage: Storage, *, follow_links: bool = True, on_entries: Callable[[int], None] = lambda _: None
) -> pa.Table:
    """List everything under the data root, at any depth, sorted by path (`ENTRY_SCHEMA`).

    `on_entries` is told of every so many entries that were found.

    Without `follow_links`, links to folders are only named, and so are links that leave the root. With it, what is
    found is the same in whichever order a disk lists names: folders first, then links in the order of their paths.

    Raises:
        DataError: The root is missing, no folder, or cannot be listed.
    """
    entries = _walk_local(storage, follow_links) if storage.is_local else _walk_remote(storage)
    return table_of_rows(_counted(entries, on_entries), ENTRY_SCHEMA).sort_by("path").combine_chunks()


def _counted(entries: Iterator[Entry], on_entries: Callable[[int], None]) -> Iterator[Entry]:
    for number, entry in enumerate(entries, start=1):
        if number % _TOLD_EVERY == 0:
            on_entries(_TOLD_EVERY)
        yield entry


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


def _walk_local(storage: Storage, follow_links: bool) -> Iterator[Entry]:
    root = storage.path
    real_root = os.path.realpath(root)
    if not os.path.isdir(root):
        raise DataError(_no_root(storage.uri, exists=os.path.exists(root)))
    folders, links = [("", real_root)], list[tuple[str, str]]()
    walked = set[str]()
    while folders or links:
        # Links last: a folder that is in the root belongs where it is.
        folder, real = folders.pop() if folders else heapq.heappop(links)
        is_hidden = any(map(is_system_name, folder.split("/")))
        if real in walked and not is_hidden:
            yield Entry(escape_name(folder), "repeat", message="a folder that is listed elsewhere already")
            continue
        if not is_hidden:  # what is hidden is not used, so a link may show it
            walked.add(real)
        if folder:
            yield Entry(escape_name(folder), "directory")
        try:
            with os.scandir(os.path.join(root, folder)) as scan:
                found = list(scan)
        except OSError as error:
            if not folder:
                raise DataError(f"data.root: cannot list {root}: {error.strerror}") from error
            why = f"the folder cannot be listed: {error.strerror}"
            yield Entry(escape_name(folder), "unreadable", message=why)
            continue
        for entry in found:
            path = f"{folder}/{entry.name}" if folder else entry.name
            kind, size_bytes, message = _look_at(entry, real_root, follow_links)
            if kind == "directory":
                folders.append((path, os.path.join(real, entry.name)))
            elif kind == "directory_link" and follow_links and not is_hidden and not is_system_name(entry.name):
                target = os.path.realpath(entry.path)
                if any(f"{inner}/".startswith(f"{target.rstrip('/')}/") for inner in (real, real_root)):
                    yield Entry(escape_name(path), "loop", message="a link to a folder that it is in")
                else:
                    heapq.heappush(links, (path, target))
            else:
                yield Entry(escape_name(path), kind, size_bytes, message)


def _look_at(entry: os.DirEntry[str], real_root: str, follow_links: bool) -> tuple[Kind, int, str | None]:
    try:
        status = entry.stat()
    except OSError as error:
        hint = "a link that leads nowhere; of DVC or git-annex: fetch the contents"
        return "unreadable", 0, hint if entry.is_symlink() else f"{error.strerror}"
    if entry.is_symlink() and not follow_links:
        target = os.path.realpath(entry.path)
        if os.path.commonpath([real_root, target]) != real_root:
            return "outside", 0, "a link to a place outside the data root (data.follow_links=false)"
    if stat.S_ISDIR(status.st_mode):
        return ("directory_link" if entry.is_symlink() else "directory"), 0, None
    if not stat.S_ISREG(status.st_mode):
        return "special", 0, "a pipe, socket or device"
    return "file", status.st_size, None


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
        path, kind = info.path.removeprefix(f"{storage.path}/"), kinds.get(info.type, "special")
        if all(path.split("/")):
            yield Entry(escape_name(path), kind, info.size or 0)
        elif kind != "directory":
            # An object store takes any name; pyarrow lists such a one, but opens none.
            yield Entry(escape_name(path), "unreadable", message="a name with // cannot be opened; rename it")


def _no_root(uri: str, *, exists: bool) -> str:
    what = "is a file" if exists else "does not exist"
    return f"data.root: {uri} {what}; it must be a folder that holds one folder of photos per class"
