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

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
"""How photos are usually named. Only folders are judged by it: a file is a photo by its content."""

_REASON_CODES = frozenset(get_args(ReasonCode))


@dataclass(frozen=True)
class Finding:
    """A file that is not going to be read, and why.

    Attributes:
        path: Relative to the data root, with `/`.
        reason: A reason code for a rejected file, a few words for an ignored one.
        message: More, where there is more to say.
    """

    path: str
    reason: str
    message: str = ""


@dataclass(frozen=True)
class Listing:
    """What lies under a data root. Each list is sorted by path, and no path is in two of them.

    Attributes:
        root: The data root; absolute where it is local.
        classes: Class names in label order.
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

    The class of a file is the first folder below the class root. That is `root` itself, or the only
    folder in it where that one holds the class folders (`root/images/glass/1.jpg`).

    Args:
        root: A local path, or a URI that pyarrow opens.
        classes: Class names in label order; None takes the sorted names of the class folders.

    Raises:
        DataError: The root is missing, no folder, cannot be listed or holds no photo, or a class of
            `classes` has no folder.
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
    """Judge an entry by where it lies and what it is, whatever its class.

    Returns:
        Why it is not going to be read; else whether it is a file, perhaps a special one, or a folder, of which
        nothing is to be said.
    """
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
    if entry.kind == "directory_link":
        return Finding(entry.path, "directory link", entry.message)
    if entry.kind == "outside":
        return Finding(entry.path, "outside_root", entry.message)
    if entry.kind == "unreadable":
        return Finding(entry.path, "unreadable", entry.message)
    return "file"


def _judge(entry: Entry, class_root: str, labels: Sequence[str]) -> CatalogRow | Finding | None:
    place = judge_place(entry)
    if isinstance(place, Finding) or place == "folder":
        return place if isinstance(place, Finding) else None
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
    below = parts[1:] if class_root and parts[0] == class_root else parts
    if class_root and below is parts:
        return None
    return below[0] if len(below) > 1 else None


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
        if name is not None and not _looks_like_photo(name):
            folders.add(name)
    return {name for name in folders if not _is_system_name(name)}


def _require_folders(classes: Sequence[str], folders: set[str], place: str) -> None:
    for name in classes:
        if name not in folders:
            close = difflib.get_close_matches(name, sorted(folders), n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {sorted(folders)}"
            raise DataError(f"data.classes: there is no folder {name!r} in {place}; {hint}")


def _no_photos(uri: str, ignored: Sequence[Finding], rejected: Sequence[Finding]) -> str:
    message = f"data.root: no photos under {uri}; expected {uri}/<class>/<photo>"
    if rejected:
        first = rejected[0]
        message += f"; {len(rejected)} were rejected, the first is {first.path!r}: {first.reason}"
    if ignored:
        message += f"; {len(ignored)} were ignored, the first is {ignored[0].path!r}: {ignored[0].reason}"
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
        yield (
            f"photos in folders below a class folder count for that class: {len(nested)}, the first is {nested[0]!r}"
        )
