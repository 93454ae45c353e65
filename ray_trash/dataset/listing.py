"""Which files under a data root are photos of which class, decided by name and place alone.

Every file comes out once, as a photo to read, as ignored or as rejected; none is opened.
"""

from __future__ import annotations

import difflib
import posixpath
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ray_trash.dataset.catalog import CatalogRow, Side
from ray_trash.dataset.labels import read_labels
from ray_trash.dataset.layout import Layout, find_layout, side_named
from ray_trash.dataset.names import bare, is_system_name, looks_like_photo, nfc
from ray_trash.dataset.photo_index import PhotoIndex
from ray_trash.dataset.places import HIDDEN, OTHER_KIND, REASON_CODES, REPEAT, WRITTEN, Finding, Place, judge_places
from ray_trash.dataset.walk import Entry, walk
from ray_trash.errors import DataError, StorageError
from ray_trash.storage import Storage
from ray_trash.terminal.text import counted, listed

_NO_CLASS_FOLDER, _NO_ROW = "not in a class folder", "not in data.labels"
_TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")


@dataclass(frozen=True)
class Listing:
    """What lies under a data root. Each list is sorted by path, and no path is in two of them.

    Attributes:
        root: The data root; absolute where it is local.
        classes: In label order.
        files: What is to be read; their path, label and size as listed.
        ignored: What systems and this program leave behind, files of other kinds, and what is in no class folder.
        rejected: What can be refused without opening it.
        warnings: Sentences for the user.
        sides: The folders train, val and test that hold the class folders, by their names; none where there are none.
        assignments: Side of each path where the table of labels says it.
    """

    root: str
    classes: tuple[str, ...]
    files: tuple[CatalogRow, ...]
    ignored: tuple[Finding, ...]
    rejected: tuple[Finding, ...]
    warnings: tuple[str, ...]
    sides: tuple[str, ...] = ()
    assignments: Mapping[str, Side] = field(default_factory=dict)


def list_photos(
    root: str, classes: Sequence[str] | None = None, labels_uri: str | None = None, *, follow_links: bool = True
) -> Listing:
    """List every file under a root, each with its class or the reason why it has none.

    The class of a file is the name of its class folder, in Unicode's form NFC. Class folders are in `root` itself, or
    in the only folder in it where that one holds them (`root/images/glass/1.jpg`), and there, where the set is split
    already, in folders train, val and test (`root/train/glass/1.jpg`). Without `classes`, in label order, these are
    all the class folders, sorted. With a table of labels at `labels_uri`, its labels are the classes, wherever photos
    lie.

    Raises:
        DataError: The root is missing, no folder, cannot be listed or holds no photo, a class has no folder, it does
            not show which folders are classes, or the table cannot be used.
        ConfigError: The table cannot be read.
    """
    try:
        storage = Storage.at(root)
    except StorageError as error:
        raise DataError(f"data.root: {error}") from error
    placed = list(judge_places(walk(storage, follow_links=follow_links)))
    wanted = tuple(map(nfc, classes or ()))
    if labels_uri is None:
        return _list_by_folders(storage, placed, wanted)
    return _list_by_table(storage, placed, wanted, labels_uri)


def index_files(listing: Listing) -> PhotoIndex:
    """Index all files of a listing, to find those that a table names."""
    unread = [finding.path for finding in (*listing.ignored, *listing.rejected)]
    return PhotoIndex([*unread, *(file.path for file in listing.files)], listing.root)


def require_two_classes(listing: Listing) -> None:
    """Refuse, by a `DataError`, photos of one class only."""
    if len(listing.classes) < 2:
        advice = "".join(f"; {warning}" for warning in listing.warnings)
        raise DataError(f"data.root: the only class is {listing.classes[0]!r}; a classifier needs at least two{advice}")


def _list_by_folders(storage: Storage, placed: Sequence[tuple[Entry, Place]], wanted: tuple[str, ...]) -> Listing:
    of_others = _folders_of_others(placed)
    layout = _layout_of(placed, of_others, wanted, storage.uri)
    folders = _class_folders([entry for entry, _ in placed], layout)
    if wanted:
        _require_classes(wanted, folders, storage.child(*filter(None, [layout.top])).uri)
    labels = wanted or tuple(sorted(label for label, paths in folders.items() if not paths <= of_others))
    files, ignored, rejected = _sort_out(placed, layout.label_of, labels, _NO_CLASS_FOLDER)
    tables = [entry.path for entry, _ in placed if _is_table_beside(entry)]
    advice = (
        [f"{listed(tables)} beside the photos: if labels are in it, set data.labels (--labels) to it"] if tables else []
    )
    if not files:
        raise DataError("; ".join([_no_photos(storage.uri, ignored, rejected), *advice]))
    if not wanted and advice and all(map(side_named, labels)) and len(labels) > 1:
        named = f"data.root: {storage.uri}: {listed(map(repr, labels))} are named as sides of a split and hold no class"
        raise DataError("; ".join([f"{named} folders; where they are classes, list them in data.classes", *advice]))
    warnings = (
        *_warn_of_twins(labels),
        *_warn_of_forms({label: folders[label] for label in labels}),
        *_warn_of_no_photos(sorted(folders.keys() - set(labels)), ignored, layout),
        *_warn_of_nesting(files, layout),
        *_warn_of_repeats(ignored),
        *(advice if len(labels) == 1 else []),
    )
    return Listing(storage.uri, labels, files, ignored, rejected, warnings, layout.sides)


def _list_by_table(
    storage: Storage, placed: Sequence[tuple[Entry, Place]], wanted: tuple[str, ...], labels_uri: str
) -> Listing:
    table = read_labels(labels_uri, PhotoIndex((entry.path for entry, place in placed if place == "file"), storage.uri))
    if wanted:
        _require_classes(wanted, set(table.labels.values()), labels_uri)
    labels = wanted or tuple(sorted(set(table.labels.values())))
    files, ignored, rejected = _sort_out(placed, table.labels.get, labels, _NO_ROW)
    if not files:
        raise DataError(_no_photos(storage.uri, ignored, rejected))
    warnings = (*_warn_of_twins(labels), *table.warnings, *_warn_of_no_row(ignored), *_warn_of_repeats(ignored))
    return Listing(storage.uri, labels, files, ignored, rejected, warnings, assignments=table.sides)


def _sort_out(
    placed: Sequence[tuple[Entry, Place]],
    label_of: Callable[[str], str | None],
    labels: Sequence[str],
    unlabelled: str,
) -> tuple[tuple[CatalogRow, ...], tuple[Finding, ...], tuple[Finding, ...]]:
    """Return what is to be read, what is ignored and what is rejected."""
    judged = [_judge(entry, place, label_of, labels, unlabelled) for entry, place in placed]
    files = tuple(verdict for verdict in judged if isinstance(verdict, CatalogRow))
    findings = [verdict for verdict in judged if isinstance(verdict, Finding)]
    ignored = tuple(finding for finding in findings if finding.reason not in REASON_CODES)
    return files, ignored, tuple(finding for finding in findings if finding.reason in REASON_CODES)


def _judge(
    entry: Entry, place: Place, label_of: Callable[[str], str | None], labels: Sequence[str], unlabelled: str
) -> CatalogRow | Finding | None:
    if place == "folder":
        return None
    if isinstance(place, Finding):
        return place
    label = label_of(entry.path)
    if label is None:
        return Finding(entry.path, unlabelled)
    if label not in labels:
        return Finding(entry.path, "not in data.classes")
    if entry.kind == "special":
        return Finding(entry.path, "not_a_regular_file", entry.message)
    return CatalogRow(entry.path, label, entry.size_bytes)


def _folders_of_others(placed: Sequence[tuple[Entry, Place]]) -> set[str]:
    """Return the folders that hold files, and all of other kinds or written by this program."""
    others, photos = set[str](), set[str]()
    for entry, place in placed:
        reason = place.reason if isinstance(place, Finding) else ""
        if place != "folder" and reason != HIDDEN:
            (others if reason in (OTHER_KIND, WRITTEN) else photos).add(posixpath.dirname(entry.path))
    return _with_those_above(others) - _with_those_above(photos)


def _with_those_above(folders: set[str]) -> set[str]:
    parts = [folder.split("/") for folder in folders]
    return {"/".join(names[:end]) for names in parts for end in range(1, len(names) + 1)}


def _layout_of(
    placed: Sequence[tuple[Entry, Place]], of_others: set[str], classes: Sequence[str], where: str
) -> Layout:
    folders, files = [], []
    for entry, place in placed:
        parts = entry.path.split("/")
        if entry.kind == "directory":
            if entry.path not in of_others and not any(is_system_name(p) or looks_like_photo(p) for p in parts):
                folders.append(parts)
        elif place == "file" or (isinstance(place, Finding) and place.reason in REASON_CODES):
            files.append(parts)
    return find_layout(folders, files, classes, where)


def _class_folders(entries: Sequence[Entry], layout: Layout) -> dict[str, set[str]]:
    """Return the paths of the folders of each class."""
    folders = defaultdict(set)
    # Both a folder and its files name it: an object store knows no empty folders, a disk does.
    for path in {entry.path if entry.kind == "directory" else posixpath.dirname(entry.path) for entry in entries}:
        name = layout.folder_of(f"{path}/")
        if name and not looks_like_photo(name) and not is_system_name(name):
            folders[nfc(name)].add("/".join(path.split("/")[: layout.depth + 1]))
    return folders


def _require_classes(classes: Sequence[str], folders: Collection[str], place: str) -> None:
    for name in classes:
        if name not in folders:
            close = difflib.get_close_matches(name, sorted(folders), n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {sorted(folders)}"
            raise DataError(f"data.classes: there is no {name!r} in {place}; {hint}")


def _no_photos(uri: str, ignored: Sequence[Finding], rejected: Sequence[Finding]) -> str:
    message = f"data.root: no photos under {uri}; expected {uri}/<class>/<photo>"
    for verdict, findings in (("rejected", rejected), ("ignored", ignored)):
        if findings:
            first = findings[0]
            why = f"{first.reason} ({first.message})" if first.message else first.reason
            message += f"; {len(findings)} were {verdict}, the first is {first.path!r}: {why}"
    return message


def _warn_of_twins(labels: Sequence[str]) -> Iterator[str]:
    twins = defaultdict(list)
    for label in labels:
        twins[bare(label)].append(label)
    for names in twins.values():
        if len(names) > 1:
            in_case = len({name.casefold() for name in names}) == 1
            what = "only in case" if in_case else "only in case, blanks or what is not seen"
            yield f"classes {names} differ {what}; they are trained as different classes"


def _warn_of_forms(folders: Mapping[str, set[str]]) -> Iterator[str]:
    for label, paths in folders.items():
        names = sorted({path.split("/")[-1] for path in paths})
        if len(names) > 1:
            spelled = listed(map(ascii, names))
            yield f"folders {spelled} differ only in how Unicode writes them (NFC, NFD); they are one class, {label!r}"


def _warn_of_no_photos(names: Sequence[str], ignored: Sequence[Finding], layout: Layout) -> Iterator[str]:
    others = {nfc(layout.folder_of(finding.path) or "") for finding in ignored if finding.reason == OTHER_KIND}
    foreign = [name for name in names if name in others]
    if foreign:
        yield f"folders without a photo are no classes: {listed(map(repr, foreign))}"


def _warn_of_nesting(files: Sequence[CatalogRow], layout: Layout) -> Iterator[str]:
    nested = [file.path for file in files if file.path.count("/") > layout.depth + 1]
    if nested:
        count = f"{len(nested)}, the first is {nested[0]!r}"
        yield f"photos in folders below a class folder count for that class: {count}"
    sides = {nested_in for path in nested if side_named(nested_in := path.split("/")[layout.depth + 1])}
    if len(sides) > 1:
        yield f"folders {listed(map(repr, sorted(sides)))} in a class folder are not taken as sides of a split"


def _warn_of_no_row(ignored: Sequence[Finding]) -> Iterator[str]:
    paths = [finding.path for finding in ignored if finding.reason == _NO_ROW and looks_like_photo(finding.path)]
    if paths:
        yield f"{counted(len(paths), 'photo')} {_NO_ROW}, ignored; the first is {paths[0]!r}"


def _is_table_beside(entry: Entry) -> bool:
    path = entry.path.lower()
    return entry.kind == "file" and "/" not in path and path.endswith(_TABLE_SUFFIXES) and not is_system_name(path)


def _warn_of_repeats(ignored: Sequence[Finding]) -> Iterator[str]:
    repeats = [finding.path for finding in ignored if finding.reason == REPEAT]
    if repeats:
        yield f"links to folders that are listed elsewhere already are not followed: {listed(map(repr, repeats))}"
