"""What a person should know of a data root beside what is listed, as sentences."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from ray_trash.dataset.layout import Layout, side_named
from ray_trash.dataset.names import bare, looks_like_photo, nfc
from ray_trash.dataset.places import NO_ROW, OTHER_KIND, REPEAT
from ray_trash.terminal.text import counted, listed


def warn_of_twins(labels: Sequence[str]) -> Iterator[str]:
    """Tell of classes whose names look the same."""
    twins = defaultdict(list)
    for label in labels:
        twins[bare(label)].append(label)
    for names in twins.values():
        if len(names) > 1:
            in_case = len({name.casefold() for name in names}) == 1
            what = "only in case" if in_case else "only in case, blanks or what is not seen"
            yield f"classes {names} differ {what}; they are trained as different classes"


def warn_of_forms(folders: Mapping[str, set[str]]) -> Iterator[str]:
    """Tell of folders that are one class since only Unicode tells their names apart; `folders` by class."""
    for label, paths in folders.items():
        names = sorted({path.split("/")[-1] for path in paths})
        if len(names) > 1:
            spelled = listed(map(ascii, names))
            yield f"folders {spelled} differ only in how Unicode writes them (NFC, NFD); they are one class, {label!r}"


def warn_of_no_photos(names: Sequence[str], ignored: pa.Table, layout: Layout) -> Iterator[str]:
    """Tell of class folders, among those that are named, in which nothing is a photo."""
    others = {nfc(layout.folder_of(path) or "") for path in _paths_because(ignored, OTHER_KIND)}
    foreign = [name for name in names if name in others]
    if foreign:
        yield f"folders without a photo are no classes: {listed(map(repr, foreign))}"


def warn_of_nesting(files: pa.Table, layout: Layout) -> Iterator[str]:
    """Tell of photos further below a class folder than just in it."""
    nested = files.filter(pc.greater(pc.count_substring(files["path"], "/"), layout.depth + 1))["path"]
    if len(nested):
        count = f"{len(nested)}, the first is {nested[0].as_py()!r}"
        yield f"photos in folders below a class folder count for that class: {count}"
    below = pc.unique(pc.list_element(pc.split_pattern(nested, "/"), layout.depth + 1)).to_pylist()
    sides = sorted(filter(side_named, below))
    if len(sides) > 1:
        yield f"folders {listed(map(repr, sides))} in a class folder are not taken as sides of a split"


def warn_of_no_row(ignored: pa.Table) -> Iterator[str]:
    """Tell of photos that a table of labels does not name."""
    paths = [path for path in _paths_because(ignored, NO_ROW) if looks_like_photo(path)]
    if paths:
        yield f"{counted(len(paths), 'photo')} {NO_ROW}, ignored; the first is {paths[0]!r}"


def warn_of_repeats(ignored: pa.Table) -> Iterator[str]:
    """Tell of links that are not followed."""
    repeats = _paths_because(ignored, REPEAT)
    if repeats:
        yield f"links to folders that are listed elsewhere already are not followed: {listed(map(repr, repeats))}"


def _paths_because(ignored: pa.Table, reason: str) -> list[str]:
    paths: list[str] = ignored.filter(pc.equal(ignored["reason"], reason))["path"].to_pylist()
    return paths
