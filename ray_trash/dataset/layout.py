"""Where the class folders of a data root are: in it, one folder further down, or below folders train, val and test.

Decided by names and places; what could mean two things is refused by name.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ray_trash.dataset.catalog import Side
from ray_trash.dataset.names import looks_like_photo, nfc
from ray_trash.errors import DataError
from ray_trash.terminal.text import listed

_SIDE_OF_NAME: dict[str, Side] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Folders that say the side of a split, in lower case."""


@dataclass(frozen=True)
class Layout:
    """Class folders are in `top`, one folder or none, or in each of its folders `sides`, where there are some."""

    top: str = ""
    sides: tuple[str, ...] = ()

    @property
    def depth(self) -> int:
        """How many folders are above the class folders."""
        return bool(self.top) + bool(self.sides)

    def folder_of(self, path: str) -> str | None:
        """Return the name of the class folder that holds a path; None where none does."""
        parts = path.split("/")
        if len(parts) < self.depth + 2 or (self.top and parts[0] != self.top):
            return None
        return parts[self.depth] if not self.sides or parts[self.depth - 1] in self.sides else None

    def label_of(self, path: str) -> str | None:
        """Return the class of a path, in the form NFC; None where it is in no class folder."""
        folder = self.folder_of(path)
        return None if folder is None else nfc(folder)


def side_named(folder: str) -> Side | None:
    """Return the side of the split that a folder's name says."""
    return _SIDE_OF_NAME.get(folder.casefold())


def given_side(path: str, label: str | None) -> Side | None:
    """Return the side that a photo of a class lies on by its path: that of the folder above its class folder."""
    parts = path.split("/")[:3]
    above = (one for one, other in pairwise(parts) if nfc(other) == label)
    return next((side for side in map(side_named, above) if side is not None), None)


def find_layout(
    folders: Sequence[Sequence[str]], files: Sequence[Sequence[str]], classes: Collection[str], where: str
) -> Layout:
    """Find where the class folders are, from paths cut at their slashes.

    Args:
        folders: All that may be or hold class folders.
        files: All that may be photos.
        classes: The names that class folders must have; none where any will do.
        where: The data root, for messages.

    Raises:
        DataError: Some folders are named as the sides of a split, and it does not show whether they are.
    """
    top = _only_folder(folders, files, classes)
    sides = _find_sides(folders, files, classes, where)
    if sides or not top:
        return Layout("", sides)
    inner_folders = [parts[1:] for parts in folders if len(parts) > 1]
    inner_files = [parts[1:] for parts in files if parts[0] == top]
    return Layout(top, _find_sides(inner_folders, inner_files, classes, f"{where}/{top}"))


def _only_folder(folders: Sequence[Sequence[str]], files: Sequence[Sequence[str]], classes: Collection[str]) -> str:
    names = {parts[0] for parts in folders} | {parts[0] for parts in files if len(parts) > 1}
    if len(names) != 1 or any(nfc(name) in classes for name in names):
        return ""
    inside = [parts for parts in files if len(parts) > 1]
    is_class_folder = any(len(parts) == 2 and looks_like_photo(parts[1]) for parts in inside)
    holds_class_folders = any(len(parts) > 2 for parts in inside)
    return names.pop() if holds_class_folders and not is_class_folder else ""


def _find_sides(
    folders: Sequence[Sequence[str]], files: Sequence[Sequence[str]], classes: Collection[str], where: str
) -> tuple[str, ...]:
    holding = {parts[0] for parts in files if len(parts) > 1}
    named = sorted(name for name in holding | {parts[0] for parts in folders} if side_named(name))
    if any(nfc(name) in classes for name in named):
        return ()
    class_folders = {name: {parts[1] for parts in files if len(parts) > 2 and parts[0] == name} for name in named}
    sides = tuple(name for name in named if class_folders[name])
    beside = sorted(holding - set(named))
    if not sides:
        return ()
    if len(named) == 1:
        doubled = sorted(class_folders[named[0]].intersection(beside))
        if doubled:
            raise _unclear(where, f"{doubled[0]!r} is in it and beside it", named)
        return ()
    if beside:
        raise _unclear(where, f"beside {_names(named)} there is {beside[0]!r}", named)
    direct = next(
        (parts for parts in files if len(parts) == 2 and parts[0] in named and looks_like_photo(parts[1])), None
    )
    if direct:
        raise _unclear(where, f"{'/'.join(direct)!r} is in no class folder", named)
    for name in sides:
        twin = next((other for other in sides if other != name and side_named(other) == side_named(name)), None)
        if twin is not None:
            raise _unclear(where, f"{name!r} and {twin!r} are both for {side_named(name)}", named)
    return sides


def _names(names: Sequence[str]) -> str:
    return listed(map(repr, names))


def _unclear(where: str, what: str, named: Sequence[str]) -> DataError:
    return DataError(
        f"data.root: {where}: {_names(named)} would be sides of a split, but {what}; move or rename it, or, where "
        "these are classes, list all in data.classes"
    )
