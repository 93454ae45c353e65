"""Which files under a data root are photos of which class, decided by name and place alone.

Every file comes out once, as a photo to read, as ignored or as rejected; none is opened.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from ray_trash.dataset.catalog import Side
from ray_trash.dataset.columns import rows_in, table_of_rows
from ray_trash.dataset.folders import by_folder, class_folders, look_at_folders
from ray_trash.dataset.labels import read_labels
from ray_trash.dataset.layout import find_layout, side_named
from ray_trash.dataset.listing_warnings import (
    warn_of_forms,
    warn_of_nesting,
    warn_of_no_photos,
    warn_of_no_row,
    warn_of_repeats,
    warn_of_twins,
)
from ray_trash.dataset.names import is_system_name, nfc
from ray_trash.dataset.packed.listing import PackedListing, find_packed, tables_in
from ray_trash.dataset.photo_index import PhotoIndex
from ray_trash.dataset.places import NO_ROW, PLACE_SCHEMA, REASON_CODES, judge_places
from ray_trash.dataset.walk import walk
from ray_trash.errors import DataError, StorageError
from ray_trash.storage import Storage
from ray_trash.terminal.bar import Bar
from ray_trash.terminal.say import Terminal
from ray_trash.terminal.text import listed

_NO_CLASS_FOLDER = "not in a class folder"
_TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")


LISTING_SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("size_bytes", pa.int64()),
        pa.field("verdict", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("message", pa.string()),
        pa.field("split", pa.string()),
    ]
)
"""Every file below a data root, as far as names and places say: `verdict` is null for what is to be read, which has a
label and the size that was listed; else `rejected` or `ignored`, with a `reason` (a code for a rejected file, a few
words for an ignored one) and perhaps a `message`. `split` is the side that the table of labels gives a photo."""


@dataclass(frozen=True)
class Listing:
    """What lies under a data root.

    Attributes:
        root: The data root; absolute where it is local.
        classes: In label order.
        entries: One row a file, sorted by path, no path twice (`LISTING_SCHEMA`).
        warnings: Sentences for the user.
        sides: The folders train, val and test that hold the class folders, by their names; none where there are none.
    """

    root: str
    classes: tuple[str, ...]
    entries: pa.Table
    warnings: tuple[str, ...]
    sides: tuple[str, ...] = ()

    @property
    def files(self) -> pa.Table:
        """The rows of what is to be read."""
        return self.entries.filter(pc.is_null(self.entries["verdict"]))

    @property
    def ignored(self) -> pa.Table:
        """The rows of what systems and this program leave behind, of files of other kinds, and of those in no class."""
        return self.entries.filter(pc.equal(self.entries["verdict"], "ignored"))

    @property
    def rejected(self) -> pa.Table:
        """The rows of what can be refused without opening it."""
        return self.entries.filter(pc.equal(self.entries["verdict"], "rejected"))

    @property
    def assignments(self) -> dict[str, Side]:
        """Side of each path where the table of labels says it."""
        given = self.entries.filter(pc.is_valid(self.entries["split"]))
        return dict(rows_in(given, "path", "split"))


def list_photos(
    root: str,
    classes: Sequence[str] | None = None,
    labels_uri: str | None = None,
    *,
    follow_links: bool = True,
    terminal: Terminal | None = None,
) -> Listing:
    """List every file under a root, each with its class or the reason why it has none; say how far this has come.

    The class of a file is the name of its class folder, in Unicode's form NFC. Class folders are in `root` itself, or
    in the only folder in it where that one holds them (`root/images/glass/1.jpg`), and there, where the set is split
    already, in folders train, val and test (`root/train/glass/1.jpg`). Without `classes`, in label order, these are
    all the class folders, sorted. With a table of labels at `labels_uri`, its labels are the classes, wherever photos
    lie.

    A root may also be a packed set, or Parquet files of photos: then it says by itself which class each photo is.

    Raises:
        DataError: The root is missing, no folder, cannot be listed or holds no photo, a class has no folder, it does
            not show which folders are classes, or the table cannot be used.
        ConfigError: The table cannot be read.
    """
    try:
        storage = Storage.at(root)
        packed = find_packed(storage)
    except StorageError as error:
        raise DataError(f"data.root: {error}") from error
    if packed is None:
        with Bar(terminal or Terminal.silent(), total=None, noun="files", doing=f"listing {storage.uri}:") as bar:
            placed = judge_places(walk(storage, follow_links=follow_links, on_entries=bar.advance))
        packed = tables_in(storage, placed)
    if packed is not None:
        placed = packed.placed()
    wanted = tuple(map(nfc, classes or ()))
    if labels_uri is not None:
        return _list_by_table(storage, placed, wanted, labels_uri)
    if packed is not None:
        return _list_packed(storage, packed, wanted)
    return _list_by_folders(storage, placed, wanted)


def index_files(listing: Listing) -> PhotoIndex:
    """Index all files of a listing, to find those that a table names."""
    return PhotoIndex(listing.entries["path"], listing.root)


def require_two_classes(listing: Listing) -> None:
    """Refuse, by a `DataError`, photos of one class only."""
    if len(listing.classes) < 2:
        advice = "".join(f"; {warning}" for warning in listing.warnings)
        raise DataError(f"data.root: the only class is {listing.classes[0]!r}; a classifier needs at least two{advice}")


def _list_by_folders(storage: Storage, placed: pa.Table, wanted: tuple[str, ...]) -> Listing:
    found = look_at_folders(placed)
    layout = find_layout(found.may_hold_classes(), found.examples(), wanted, storage.uri)
    folders = class_folders(found.everywhere, layout)
    if wanted:
        _require_classes(wanted, folders, storage.child(*filter(None, [layout.top])).uri)
    labels = wanted or tuple(sorted(label for label, paths in folders.items() if not paths <= found.of_others))
    label_of = by_folder(layout.label_of)
    entries = _sort_out(placed, lambda path: (label_of(path), None), labels, _NO_CLASS_FOLDER)
    listing = Listing(storage.uri, labels, entries, (), layout.sides)
    tables = [path for path, kind in rows_in(placed, "path", "kind") if _is_table_beside(path, kind)]
    advice = (
        [f"{listed(tables)} beside the photos: if labels are in it, set data.labels (--labels) to it"] if tables else []
    )
    files, ignored = listing.files, listing.ignored
    if not len(files):
        raise DataError("; ".join([_no_photos(listing), *advice]))
    if not wanted and advice and all(map(side_named, labels)) and len(labels) > 1:
        named = f"data.root: {storage.uri}: {listed(map(repr, labels))} are named as sides of a split and hold no class"
        raise DataError("; ".join([f"{named} folders; where they are classes, list them in data.classes", *advice]))
    warnings = (
        *warn_of_twins(labels),
        *warn_of_forms({label: folders[label] for label in labels}),
        *warn_of_no_photos(sorted(folders.keys() - set(labels)), ignored, layout),
        *warn_of_nesting(files, layout),
        *warn_of_repeats(ignored),
        *(advice if len(labels) == 1 else []),
    )
    return replace(listing, warnings=warnings)


def _list_packed(storage: Storage, packed: PackedListing, wanted: tuple[str, ...]) -> Listing:
    if wanted:
        _require_classes(wanted, packed.classes, storage.uri)
    labels = wanted or packed.classes
    answers = rows_in(packed.photos, "label", "split")
    entries = _sort_out(packed.placed(), lambda _: next(answers), labels, "no label")
    listing = Listing(storage.uri, labels, entries, (), packed.sides)
    if not len(listing.files):
        raise DataError(_no_photos(listing))
    # What was packed from a folder has been warned of its classes then.
    return replace(listing, warnings=tuple(dict.fromkeys([*warn_of_twins(labels), *packed.warnings])))


def _list_by_table(storage: Storage, placed: pa.Table, wanted: tuple[str, ...], labels_uri: str) -> Listing:
    files = placed.filter(pc.equal(placed["place"], "file"))
    table = read_labels(labels_uri, PhotoIndex(files["path"], storage.uri))
    there = set(pc.unique(table.labels).drop_null().to_pylist())
    if wanted:
        _require_classes(wanted, there, labels_uri)
    labels = wanted or tuple(sorted(there))
    # The table's answers come in the order of the files, and `_sort_out` asks for one of them after the other.
    answers = rows_in(pa.table({"label": table.labels, "split": table.sides}), "label", "split")
    entries = _sort_out(placed, lambda _: next(answers), labels, NO_ROW)
    listing = Listing(storage.uri, labels, entries, ())
    if not len(listing.files):
        raise DataError(_no_photos(listing))
    ignored = listing.ignored
    warnings = (*warn_of_twins(labels), *table.warnings, *warn_of_no_row(ignored), *warn_of_repeats(ignored))
    return replace(listing, warnings=warnings)


def _sort_out(
    placed: pa.Table,
    said_of: Callable[[str], tuple[str | None, Side | None]],
    labels: Sequence[str],
    unlabelled: str,
) -> pa.Table:
    """Return what is to be read, ignored and rejected; label and side of each path of a file are asked for in turn."""
    known = frozenset(labels)

    def rows() -> Iterator[tuple[str | int | None, ...]]:
        for path, kind, size_bytes, message, place, reason in rows_in(placed, *PLACE_SCHEMA.names):
            if place == "folder":
                continue
            label, side = said_of(path) if place == "file" else (None, None)
            if place is None:
                why = reason
            elif label is None:
                why, message = unlabelled, None
            elif label not in known:
                why, message = "not in data.classes", None
            elif kind == "special":
                why = "not_a_regular_file"
            else:
                yield path, label, size_bytes, None, None, None, side
                continue
            yield path, None, None, "rejected" if why in REASON_CODES else "ignored", why, message, side

    return table_of_rows(rows(), LISTING_SCHEMA)


def _require_classes(classes: Sequence[str], folders: Collection[str], place: str) -> None:
    for name in classes:
        if name not in folders:
            close = difflib.get_close_matches(name, sorted(folders), n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {sorted(folders)}"
            raise DataError(f"data.classes: there is no {name!r} in {place}; {hint}")


def _no_photos(listing: Listing) -> str:
    message = f"data.root: no photos under {listing.root}; expected {listing.root}/<class>/<photo>"
    for verdict, rows in (("rejected", listing.rejected), ("ignored", listing.ignored)):
        if len(rows):
            path, reason, said = next(rows_in(rows.slice(0, 1), "path", "reason", "message"))
            why = f"{reason} ({said})" if said else reason
            message += f"; {len(rows)} were {verdict}, the first is {path!r}: {why}"
    return message


def _is_table_beside(path: str, kind: str) -> bool:
    return kind == "file" and "/" not in path and path.lower().endswith(_TABLE_SUFFIXES) and not is_system_name(path)
