"""Which files under a data root are photos of which class, decided by name and place alone.

Every file comes out once, as a photo to read, as ignored or as rejected; none is opened.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from ray_trash.dataset.catalog import CatalogRow
from ray_trash.dataset.walk import Entry, walk
from ray_trash.errors import DataError, ReasonCode, StorageError
from ray_trash.storage import Storage

SYSTEM_NAMES = frozenset({"__macosx", "thumbs.db", "desktop.ini"})
"""Folders and files that operating systems leave behind, in lower case. Names that start with a dot
(`.DS_Store`, `._photo.jpg`, `.ipynb_checkpoints`) are ignored beside these."""

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".heic", ".heif")
"""How photos are usually named. Only folders are judged by it: a file is a photo by its content."""

_REASON_CODES = frozenset(get_args(ReasonCode))
_REASON_OF_KIND = {"directory_link": "directory link", "outside": "outside_root", "unreadable": "unreadable"}


@dataclass(frozen=True)
class Finding:
    """A file that is not going to be read; `reason` is a code for a rejected one, a few words for an ignored one."""

    path: str
    reason: str
    message: str = ""


@dataclass(frozen=True)
class Listing:
    """What lies under a data root. Each list is sorted by path, and no path is in two of them.

    Attributes:
        root: The data root; absolute where it is local.
        classes: In label order.
        files: What is to be read; their path, label and size as listed.
        ignored: Hidden and system files, and what lies outside the class folders.
        rejected: What can be refused without opening it.
        warnings: Sentences for the user.
    """

    root: str
    classes: tuple[str, ...]
    files: tuple[CatalogRow, ...]
    ignored: tuple[Finding, ...]
    rejected: tuple[Finding, ...]
    warnings: tuple[str, ...]


def list_photos(root: str, classes: Sequence[str] | None = None) -> Listing:
    """List every file under a root, each with its class or the reason why it has none.

    The class of a file is the first folder below the class root. That is `root` itself, or the only folder in it where
    that one holds the class folders (`root/images/glass/1.jpg`). Without `classes`, in label order, these are all the
    class folders, sorted.

    Raises:
        DataError: The root is missing, no folder, cannot be listed or holds no photo, or a class has no folder.
    """
    try:
        storage = Storage.at(root)
    except StorageError as error:
        raise DataError(f"data.root: {error}") from error
    entries = walk(storage)
    class_root = _find_class_root(entries, classes)
    folders = _class_folders(entries, class_root)
    if classes is not None:
        _require_folders(classes, folders, storage.child(*filter(None, [class_root])).uri)
    labels = tuple(classes) if classes is not None else tuple(sorted(folders))
    judged = [_judge(entry, class_root, labels) for entry in entries]
    files = tuple(verdict for verdict in judged if isinstance(verdict, CatalogRow))
    findings = [verdict for verdict in judged if isinstance(verdict, Finding)]
    rejected = tuple(finding for finding in findings if finding.reason in _REASON_CODES)
    ignored = tuple(finding for finding in findings if finding.reason not in _REASON_CODES)
    if not files:
        raise DataError(_no_photos(storage.uri, ignored, rejected))
    warnings = (*_warn_of_twins(labels), *_warn_of_nesting(files, class_root))
    return Listing(storage.uri, labels, files, ignored, rejected, warnings)


def judge_place(entry: Entry) -> Finding | Literal["file", "folder"]:
    """Say why an entry, of whatever class, is not going to be read; else what it is, a file being perhaps `special`."""
    parts = entry.path.split("/")
    is_folder = entry.kind == "directory"
    if any(map(_is_system_name, parts)):
        return "folder" if is_folder else Finding(entry.path, "hidden or system file")
    if any(map(_looks_like_photo, parts[:-1])):
        return "folder" if is_folder else Finding(entry.path, "in a folder named like a photo")
    if is_folder:
        if not _looks_like_photo(parts[-1]):
            return "folder"
        return Finding(entry.path, "not_a_regular_file", "a folder named like a photo")
    reason = _REASON_OF_KIND.get(entry.kind)
    return Finding(entry.path, reason, entry.message) if reason else "file"


def _judge(entry: Entry, class_root: str, labels: Sequence[str]) -> CatalogRow | Finding | None:
    place = judge_place(entry)
    if place == "folder":
        return None
    if isinstance(place, Finding):
        return place
    label = _label(entry.path.split("/"), class_root)
    if label is None:
        return Finding(entry.path, "not in a class folder")
    if label not in labels:
        return Finding(entry.path, "not in data.classes")
    if entry.kind == "special":
        return Finding(entry.path, "not_a_regular_file", entry.message)
    return CatalogRow(entry.path, label, entry.size_bytes)


def _is_system_name(name: str) -> bool:
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def _looks_like_photo(name: str) -> bool:
    return name.lower().endswith(PHOTO_SUFFIXES)


def _label(parts: Sequence[str], class_root: str) -> str | None:
    if class_root:
        if parts[0] != class_root:
            return None
        parts = parts[1:]
    return parts[0] if len(parts) > 1 else None


def _find_class_root(entries: Sequence[Entry], classes: Sequence[str] | None) -> str:
    split = [(entry.kind, entry.path.split("/")) for entry in entries]
    visible = [(kind, parts) for kind, parts in split if not any(map(_is_system_name, parts))]
    top = {parts[0] for kind, parts in visible if len(parts) > 1 or kind == "directory"}
    if len(top) != 1 or not top.isdisjoint(classes or ()):
        return ""
    only = next(iter(top))
    files = [parts for kind, parts in visible if kind == "file" and parts[0] == only]
    is_class_folder = any(len(parts) == 2 and _looks_like_photo(parts[1]) for parts in files)
    holds_class_folders = any(len(parts) > 2 for parts in files)
    return only if holds_class_folders and not is_class_folder else ""


def _class_folders(entries: Sequence[Entry], class_root: str) -> set[str]:
    folders = set()
    for entry in entries:
        parts = entry.path.split("/")
        # Both a folder and its files name it: an object store knows no empty folders, a disk does.
        name = _label([*parts, ""] if entry.kind == "directory" else parts, class_root)
        if name is not None and not _looks_like_photo(name) and not _is_system_name(name):
            folders.add(name)
    return folders


def _require_folders(classes: Sequence[str], folders: set[str], place: str) -> None:
    for name in classes:
        if name not in folders:
            close = difflib.get_close_matches(name, sorted(folders), n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {sorted(folders)}"
            raise DataError(f"data.classes: there is no folder {name!r} in {place}; {hint}")


def _no_photos(uri: str, ignored: Sequence[Finding], rejected: Sequence[Finding]) -> str:
    message = f"data.root: no photos under {uri}; expected {uri}/<class>/<photo>"
    for verdict, findings in (("rejected", rejected), ("ignored", ignored)):
        if findings:
            first = findings[0]
            message += f"; {len(findings)} were {verdict}, the first is {first.path!r}: {first.reason}"
    return message


def _warn_of_twins(labels: Sequence[str]) -> Iterator[str]:
    twins = defaultdict(list)
    for label in labels:
        twins[unicodedata.normalize("NFC", label).casefold()].append(label)
    for names in twins.values():
        if len(names) > 1:
            yield f"classes {names} differ only in case; they are trained as different classes"


def _warn_of_nesting(files: Sequence[CatalogRow], class_root: str) -> Iterator[str]:
    depth = 1 + bool(class_root)
    nested = [file.path for file in files if file.path.count("/") > depth]
    if nested:
        count = f"{len(nested)}, the first is {nested[0]!r}"
        yield f"photos in folders below a class folder count for that class: {count}"
