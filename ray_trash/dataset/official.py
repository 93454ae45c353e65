"""The official split of TrashNet: three list files beside the photos, matched by file name."""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import pyarrow as pa

from ray_trash.dataset.catalog import Side
from ray_trash.dataset.columns import rows_in
from ray_trash.dataset.listing import Listing
from ray_trash.errors import DataError
from ray_trash.storage import Storage
from ray_trash.terminal.text import counted, listed

OFFICIAL_LISTS: dict[Side, str] = {
    "train": "one-indexed-files-notrash_train.txt",
    "val": "one-indexed-files-notrash_val.txt",
    "test": "one-indexed-files-notrash_test.txt",
}
"""File names of the lists. Source: https://github.com/garythung/trashnet, folder `data`."""

OFFICIAL_CLASSES = {"1": "glass", "2": "paper", "3": "cardboard", "4": "plastic", "5": "metal", "6": "trash"}
"""Class numbers of the lists. Source: the names of the photos listed with them."""


class OfficialEntry(NamedTuple):
    """One line of a list: a file name without folder, its class, and the list and line, for messages."""

    name: str
    label: str
    place: str


def parse_official_list(content: bytes, name: str) -> list[OfficialEntry]:
    """Read the lines `file class-number` of a list file; anything else is a `DataError`."""
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: not a text in UTF-8; fetch it again") from error
    entries = []
    for number, line in enumerate(lines, start=1):
        words, place = line.rsplit(maxsplit=1), f"{name}, line {number}"
        if not words:
            continue
        if len(words) != 2 or words[1] not in OFFICIAL_CLASSES:
            expected = f"`file class-number` with a number from 1 to {len(OFFICIAL_CLASSES)}"
            raise DataError(f"{place}: expected {expected}, found {line!r}")
        entries.append(OfficialEntry(words[0].strip(), OFFICIAL_CLASSES[words[1]], place))
    return entries


def has_official_lists(listing: Listing) -> bool:
    """Tell whether a data root has list files where `assign_officially` looks for them."""
    places = _list_places(listing.files, Storage.at(listing.root))
    return any(place.exists(name) for place in places for name in OFFICIAL_LISTS.values())


def official_lists(listing: Listing) -> dict[str, bytes]:
    """Return the list files that `assign_officially` would read, by their names; none where there are none."""
    for place in _list_places(listing.files, Storage.at(listing.root)):
        if found := [name for name in OFFICIAL_LISTS.values() if place.exists(name)]:
            return {name: place.read_bytes(name) for name in found}
    return {}


def assign_officially(photos: pa.Table, root: str) -> tuple[dict[str, Side], list[str]]:
    """Return the side of each path that the official lists name, and sentences for the user.

    The lists are looked for in the data root, in the folder of the class folders, and above the root; photos are rows
    with columns `path` and `label`.

    Raises:
        DataError: There is no list, one is damaged, or they contradict each other or the folders.
    """
    lists, warnings = _read_lists(photos, root)
    listed_names = {entry.name for entries in lists.values() for entry in entries}
    by_name = defaultdict(list)
    for path, label in rows_in(photos, "path", "label"):
        if (name := posixpath.basename(path)) in listed_names:
            by_name[name].append((path, label))
    seen: dict[tuple[str, str], tuple[Side, str]] = {}
    sides: dict[str, Side] = {}
    missing = []
    for side, entries in lists.items():
        for entry in entries:
            earlier, place = seen.setdefault((entry.name, entry.label), (side, entry.place))
            if earlier != side:
                raise DataError(f"{entry.place}: {entry.name} is already in {earlier}, {place}")
            if entry.name not in by_name:
                missing.append(entry.name)
            for path in _fitting(entry, by_name[entry.name]):
                sides[path] = side
    if missing:
        warnings.append(f"the official lists name {named_photos(missing)} not among the photos")
    return sides, warnings


def named_photos(paths: Sequence[str]) -> str:
    """Count photos, and name the first few."""
    return f"{counted(len(paths), 'photo')} ({listed(map(repr, paths))})"


def _fitting(entry: OfficialEntry, photos: Sequence[tuple[str, str | None]]) -> list[str]:
    labelled = [(path, label) for path, label in photos if label]
    fitting = [path for path, label in labelled if label.casefold() == entry.label]
    if labelled and not fitting:
        raise DataError(
            f"{entry.place}: {entry.name} is {entry.label}, but it lies at {labelled[0][0]!r}; "
            "move the photo, or correct the list"
        )
    return fitting


def _read_lists(photos: pa.Table, root: str) -> tuple[dict[Side, list[OfficialEntry]], list[str]]:
    places = list(_list_places(photos, Storage.at(root)))
    for place in places:
        found = {side: name for side, name in OFFICIAL_LISTS.items() if place.exists(name)}
        if found:
            absent = [name for side, name in OFFICIAL_LISTS.items() if side not in found]
            warnings = [f"there is no {name} in {place.uri}: that side is empty" for name in absent]
            lists = {side: parse_official_list(place.read_bytes(name), name) for side, name in found.items()}
            return lists, warnings
    names = OFFICIAL_LISTS["train"].replace("train", "{train,val,test}")
    raise DataError(
        f"data.split=official: no {names} in {' or '.join(place.uri for place in places)}; put them"
        " there (`ray-trash fetch trashnet` does), or set data.split=stratified"
    )


def _list_places(photos: pa.Table, root: Storage) -> Iterator[Storage]:
    yield root
    tops = ((label, path.split("/")[0]) for path, label in rows_in(photos, "path", "label") if label)
    class_root = next((top for label, top in tops if top != label), None)
    if class_root is not None:
        yield root.child(class_root)
    above = posixpath.dirname(root.path)
    if above not in ("", root.path):
        yield replace(root, path=above, uri=f"{root.uri}/..")
