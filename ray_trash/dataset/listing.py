"""Which files under a data root are photos of which class, decided by name and place alone.

Every file comes out once, as a photo to read, as ignored or as rejected; none is opened.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from ray_trash.dataset.catalog import CatalogRow, Side
from ray_trash.dataset.labels import read_labels
from ray_trash.dataset.photo_index import PhotoIndex
from ray_trash.dataset.walk import Entry, walk
from ray_trash.errors import DataError, ReasonCode, StorageError
from ray_trash.storage import Storage
from ray_trash.terminal.text import counted, listed

SYSTEM_NAMES = frozenset({"__macosx", "thumbs.db", "desktop.ini"})
"""Folders and files that operating systems leave behind, in lower case. Names that start with a dot
(`.DS_Store`, `._photo.jpg`, `.ipynb_checkpoints`) are ignored beside these."""

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
"""How photos are usually named. Only folders are judged by it: a file is a photo by its content."""

_TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")

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
        assignments: Side of each path, where the table of labels says it.
    """

    root: str
    classes: tuple[str, ...]
    files: tuple[CatalogRow, ...]
    ignored: tuple[Finding, ...]
    rejected: tuple[Finding, ...]
    warnings: tuple[str, ...]
    assignments: Mapping[str, Side] = field(default_factory=dict)


def list_photos(root: str, classes: Sequence[str] | None = None, labels_uri: str | None = None) -> Listing:
    """List every file under a root, each with its class or the reason why it has none.

    The class of a file is the first folder below the class root. That is `root` itself, or the only folder in it where
    that one holds the class folders (`root/images/glass/1.jpg`). Without `classes`, in label order, these are all the
    class folders, sorted. With a table of labels at `labels_uri`, its labels are the classes, wherever photos lie.

    Raises:
        DataError: The root is missing, no folder, cannot be listed or holds no photo, or a class has no folder; or
            the table cannot be used.
        ConfigError: The table cannot be read.
    """
    try:
        storage = Storage.at(root)
    except StorageError as error:
        raise DataError(f"data.root: {error}") from error
    entries = walk(storage)
    class_root = _find_class_root(entries, classes)
    folders = _class_folders(entries, class_root)
    table = None
    if labels_uri is not None:
        readable = (entry.path for entry in entries if judge_place(entry) == "file")
        table = read_labels(labels_uri, PhotoIndex(readable, storage.uri, PHOTO_SUFFIXES))
        folders = set(table.labels.values())
    if classes is not None:
        _require_folders(classes, folders, labels_uri or storage.child(*filter(None, [class_root])).uri)
    labels = tuple(classes) if classes is not None else tuple(sorted(folders))

    def find_label(path: str) -> str | None:
        return table.labels.get(path) if table else _label(path.split("/"), class_root)

    unlabelled = "not in a class folder" if table is None else "not in data.labels"
    judged = [_judge(entry, find_label, labels, unlabelled) for entry in entries]
    files = tuple(verdict for verdict in judged if isinstance(verdict, CatalogRow))
    findings = [verdict for verdict in judged if isinstance(verdict, Finding)]
    rejected = tuple(finding for finding in findings if finding.reason in _REASON_CODES)
    ignored = tuple(finding for finding in findings if finding.reason not in _REASON_CODES)
    if not files:
        raise DataError(_no_photos(storage.uri, ignored, rejected, _advise_tables(entries)))
    if table is not None:
        warnings = (*_warn_of_twins(labels), *table.warnings, *_warn_of_unlabelled(ignored, unlabelled))
        return Listing(storage.uri, labels, files, ignored, rejected, warnings, table.sides)
    advice = _advise_tables(entries) if len(labels) == 1 else ""
    warnings = (*_warn_of_twins(labels), *_warn_of_nesting(files, class_root), *filter(None, [advice]))
    return Listing(storage.uri, labels, files, ignored, rejected, warnings)


def index_photos(listing: Listing) -> PhotoIndex:
    """Index all files of a listing, so that what a table says of them can be found."""
    paths = [finding.path for finding in (*listing.ignored, *listing.rejected)]
    return PhotoIndex([*paths, *(file.path for file in listing.files)], listing.root, PHOTO_SUFFIXES)


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


def _judge(
    entry: Entry, find_label: Callable[[str], str | None], labels: Sequence[str], unlabelled: str
) -> CatalogRow | Finding | None:
    place = judge_place(entry)
    if place == "folder":
        return None
    if isinstance(place, Finding):
        return place
    label = find_label(entry.path)
    if label is None:
        return Finding(entry.path, unlabelled)
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
            raise DataError(f"data.classes: there is no {name!r} in {place}; {hint}")


def _no_photos(uri: str, ignored: Sequence[Finding], rejected: Sequence[Finding], advice: str) -> str:
    message = f"data.root: no photos under {uri}; expected {uri}/<class>/<photo>"
    for verdict, findings in (("rejected", rejected), ("ignored", ignored)):
        if findings:
            first = findings[0]
            message += f"; {len(findings)} were {verdict}, the first is {first.path!r}: {first.reason}"
    return "; ".join(filter(None, [message, advice]))


def _advise_tables(entries: Sequence[Entry]) -> str:
    tables = [entry.path for entry in entries if entry.kind == "file" and entry.path.lower().endswith(_TABLE_SUFFIXES)]
    beside = [path for path in tables if "/" not in path and not _is_system_name(path)]
    if not beside:
        return ""
    return f"{listed(beside)} beside the photos: if labels are in it, set data.labels (--labels) to its path"


def _warn_of_unlabelled(ignored: Sequence[Finding], unlabelled: str) -> Iterator[str]:
    paths = [finding.path for finding in ignored if finding.reason == unlabelled and _looks_like_photo(finding.path)]
    if paths:
        yield f"{counted(len(paths), 'photo')} {unlabelled}, ignored; the first is {paths[0]!r}"


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
