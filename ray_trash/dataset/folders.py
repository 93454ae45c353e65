"""What the folders below a data root hold: photos, files of other kinds, classes."""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import pyarrow as pa

from ray_trash.dataset.columns import rows_in
from ray_trash.dataset.layout import Layout
from ray_trash.dataset.names import is_system_name, looks_like_photo, nfc
from ray_trash.dataset.places import HIDDEN, OTHER_KIND, REASON_CODES, WRITTEN


def by_folder(label_of: Callable[[str], str | None]) -> Callable[[str], str | None]:
    """Have a function of a path's folder computed once for each folder."""
    known: dict[str, str | None] = {}

    def look_up(path: str) -> str | None:
        folder = posixpath.dirname(path)
        if folder not in known:
            known[folder] = label_of(path)
        return known[folder]

    return look_up


@dataclass(frozen=True)
class Folders:
    """What folders hold, by their paths.

    Attributes:
        everywhere: All that are there, or named by a file.
        named: Those that are there by themselves: an object store knows no empty folders, a disk does.
        of_others: That hold files, and all of other kinds or written by this program.
        first: The first file that is named like a photo in each, and the first other one, of those that may be photos.
    """

    everywhere: set[str]
    named: set[str]
    of_others: set[str]
    first: Mapping[tuple[str, bool], str]

    def may_hold_classes(self) -> list[list[str]]:
        """Return folders that may be or hold class folders, cut at their slashes."""
        parts = (path.split("/") for path in sorted(self.named - self.of_others))
        return [names for names in parts if not any(is_system_name(name) or looks_like_photo(name) for name in names)]

    def examples(self) -> list[list[str]]:
        """Return files that may be photos, cut at their slashes: a few of each folder, which stand for the others."""
        return [path.split("/") for path in sorted(self.first.values())]


def look_at_folders(placed: pa.Table) -> Folders:
    """Sum up what was found (`PLACE_SCHEMA`) by folders."""
    named, others, photos = set[str](), set[str](), set[str]()
    holding = set[str]()
    first: dict[tuple[str, bool], str] = {}
    for path, kind, place, reason in rows_in(placed, "path", "kind", "place", "reason"):
        folder, _, name = path.rpartition("/")
        if kind == "directory":
            named.add(path)
        else:
            holding.add(folder)
        if place != "folder" and reason != HIDDEN:
            (others if reason in (OTHER_KIND, WRITTEN) else photos).add(folder)
        if kind != "directory" and (place == "file" or reason in REASON_CODES):
            first.setdefault((folder, looks_like_photo(name)), path)
    return Folders(named | holding, named, _with_those_above(others) - _with_those_above(photos), first)


def _with_those_above(folders: set[str]) -> set[str]:
    parts = [folder.split("/") for folder in folders]
    return {"/".join(names[:end]) for names in parts for end in range(1, len(names) + 1)}


def class_folders(everywhere: Collection[str], layout: Layout) -> dict[str, set[str]]:
    """Return the paths of the folders of each class."""
    folders = defaultdict(set)
    for path in everywhere:
        name = layout.folder_of(f"{path}/")
        if name and not looks_like_photo(name) and not is_system_name(name):
            folders[nfc(name)].add("/".join(path.split("/")[: layout.depth + 1]))
    return folders
