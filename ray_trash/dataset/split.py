"""Which side of the split each photo is on: train, val, test, or none.

A catalog and a rule go in; the sides and warnings come out, and only the rule's own lists are read.
Nothing depends on the order of the files, on a random stream or on how many workers there are. The
rule is stored in a checkpoint, so that evaluation finds the same photos on the same side.
"""

from __future__ import annotations

import csv
import hashlib
import io
import posixpath
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pyarrow as pa

from ray_trash.dataset.official import SIDES, CataloguedPhoto, Side, assign_officially, some_of
from ray_trash.errors import ConfigError, DataError, StorageError
from ray_trash.storage import Storage

_HASH_PREFIX = b"ray-trash split"
"""Sets the hash apart from the content's own, which seeds augmentation."""


SplitKind = Literal["official", "official-clean", "grouped", "stratified", "file"]
_KINDS: tuple[SplitKind, ...] = ("official", "official-clean", "grouped", "stratified")
"""Those that a word asks for."""
_KEYS: dict[str, frozenset[str]] = {
    "official": frozenset(),
    "official-clean": frozenset({"left_out"}),
    "grouped": frozenset({"val_fraction", "test_fraction", "anchors"}),
    "stratified": frozenset({"val_fraction", "test_fraction"}),
    "file": frozenset({"assignments"}),
}
"""What a stored rule says, beside its kind."""


@dataclass(frozen=True)
class SplitRule:
    """How photos are put on sides.

    Attributes:
        kind: By TrashNet's list files, as they are or without what they leak; by a hash of the content, of whole
            groups or of single photos; or by a file of the user.
        val_fraction: Expected share of photos in val, 0 to below 1; only for `grouped` and `stratified`.
        test_fraction: Expected share of photos in test, 0 to below 1; only for these.
        anchors: SHA-256 of each photo that is in a group to the one that stands for its group; only for `grouped`.
        left_out: SHA-256 of photos that must not be trained on; only for `official-clean`.
        assignments: Side of each path relative to the data root; only for `file`.
    """

    kind: SplitKind
    val_fraction: float = 0.0
    test_fraction: float = 0.0
    anchors: Mapping[str, str] = field(default_factory=dict)
    left_out: frozenset[str] = frozenset()
    assignments: Mapping[str, Side] = field(default_factory=dict)

    @property
    def by_content(self) -> bool:
        """Whether a hash of the content decides, not a list."""
        return self.kind in ("grouped", "stratified")

    @property
    def needs_groups(self) -> bool:
        """Whether the rule depends on which photos show the same."""
        return self.kind in ("grouped", "official-clean")

    def to_json(self) -> dict[str, Any]:
        """Return the rule as JSON holds it."""
        values = {
            "val_fraction": self.val_fraction,
            "test_fraction": self.test_fraction,
            "anchors": dict(self.anchors),
            "left_out": sorted(self.left_out),
            "assignments": dict(self.assignments),
        }
        return {"kind": self.kind, **{name: value for name, value in values.items() if name in _KEYS[self.kind]}}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SplitRule:
        """Rebuild what `to_json` gave.

        Raises:
            ValueError: A key is missing, unknown, or has a value that cannot be.
        """
        if not isinstance(values, Mapping) or values.get("kind") not in list(_KEYS):
            raise ValueError(f"split rule: kind is none of {', '.join(_KEYS)}")
        if set(values) != {"kind", *_KEYS[values["kind"]]}:
            raise ValueError(f"split rule: unexpected keys for {values['kind']}: {sorted(values)}")
        for name in values.keys() & {"val_fraction", "test_fraction"}:
            if not isinstance(values[name], float | int) or not 0 <= values[name] < 1:
                raise ValueError(f"split rule: {name}={values[name]!r} is not in 0 to 1")
        assignments = values.get("assignments", {})
        if not isinstance(assignments, Mapping) or any(side not in SIDES for side in assignments.values()):
            raise ValueError(f"split rule: assignments are not all one of {', '.join(SIDES)}")
        anchors = values.get("anchors", {})
        if not isinstance(anchors, Mapping) or not all(isinstance(value, str) for value in anchors.values()):
            raise ValueError("split rule: anchors are not all hashes")
        left_out = values.get("left_out", [])
        if not isinstance(left_out, list) or not all(isinstance(value, str) for value in left_out):
            raise ValueError("split rule: left_out is no list of hashes")
        return cls(**{**values, "left_out": frozenset(left_out)})


def split_rule(split: str, val_fraction: float, test_fraction: float) -> SplitRule:
    """Make the rule that the configuration asks for; a file is read here, groups are added once they are known.

    Args:
        split: `official`, `official-clean`, `grouped`, `stratified`, or the path or URI of a CSV file `path,split`.
        val_fraction: 0 to below 1.
        test_fraction: 0 to below 1; both together are below 1.

    Raises:
        ConfigError: `split` is none of the words nor a file that can be read.
        DataError: The file is not a table of paths and sides.
    """
    kind = next((kind for kind in _KINDS if kind == split), None)
    if kind in ("grouped", "stratified"):
        return SplitRule(kind, val_fraction, test_fraction)
    if kind is not None:
        return SplitRule(kind)
    try:
        file = Storage.at(split)
        folder, name = posixpath.split(file.path)
        content = replace(file, path=folder, uri=posixpath.dirname(file.uri)).read_bytes(name)
    except StorageError as error:
        words = ", ".join(_KINDS)
        raise ConfigError(
            f"data.split={split!r} is none of auto, {words}, nor a file that can be read: {error}"
        ) from error
    return SplitRule("file", assignments=_parse_assignments(content, split))


def assign_splits(catalog: pa.Table, rule: SplitRule, root: str) -> tuple[list[Side | None], list[str]]:
    """Put every accepted photo of a catalog on a side.

    Args:
        catalog: As `build_catalog` gives it.
        rule: Which way.
        root: The data root, where the list files of `official` are looked for.

    Returns:
        The side of each row, None for rows that are on none; and sentences for the user.

    Raises:
        DataError: The lists of `official` are missing, damaged, or contradict the folders.
    """
    photos = [
        CataloguedPhoto(path, label or "", sha256 or "", verdict == "accepted")
        for path, label, sha256, verdict in zip(
            *(catalog[name].to_pylist() for name in ("path", "label", "sha256", "verdict")), strict=True
        )
    ]
    accepted = [photo for photo in photos if photo.accepted]
    if rule.by_content:
        sides, warnings = _hash_onto_sides(accepted, rule)
    elif rule.kind == "file":
        sides, warnings = _assign_by_path(photos, rule.assignments)
    else:
        sides, warnings = assign_officially(photos, root)
    listed = not rule.by_content
    if listed:
        warnings += _warn_of_unlisted([photo for photo in accepted if photo.path not in sides])
    for photo in accepted:
        if photo.sha256 in rule.left_out and sides.get(photo.path) == "train":
            del sides[photo.path]
    by_row = [sides.get(photo.path) if photo.accepted else None for photo in photos]
    wanted: list[Side] = ["train", "val"] if listed or rule.val_fraction > 0 else ["train"]
    for side in wanted:
        warnings += _warn_of_absent_classes(accepted, sides, side)
    return by_row, warnings


def place_of(sha256: str) -> float:
    """Return where a content lies between 0 and 1: the same for ever, and as good as random."""
    digest = hashlib.sha256(_HASH_PREFIX + sha256.encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _parse_assignments(content: bytes, where: str) -> dict[str, Side]:
    try:
        reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        rows = [(reader.line_num, row) for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"data.split: {where} is no CSV text in UTF-8: {error}") from error
    if not rows or rows[0][1] != ["path", "split"]:
        raise DataError(f"data.split: {where} must start with the line `path,split`")
    assignments: dict[str, Side] = {}
    by_name: dict[str, Side] = {side: side for side in SIDES}
    for line, row in rows[1:]:
        side = by_name.get(row[-1].strip())
        if len(row) != 2 or side is None:
            raise DataError(
                f"data.split: {where}, line {line}: expected `path,split` with split one of"
                f" {', '.join(SIDES)}, found {','.join(row)!r}"
            )
        path = row[0].removeprefix("./")
        if path in assignments:
            raise DataError(f"data.split: {where}, line {line}: {path!r} is listed a second time")
        assignments[path] = side
    return assignments


def _hash_onto_sides(photos: list[CataloguedPhoto], rule: SplitRule) -> tuple[dict[str, Side], list[str]]:
    warnings = []
    anchor_of = {photo.sha256: rule.anchors.get(photo.sha256, photo.sha256) for photo in photos}
    places = {anchor: place_of(anchor) for anchor in anchor_of.values()}
    sides = {anchor: _side_of_place(place, rule) for anchor, place in places.items()}
    contents = defaultdict(set)
    for photo in photos:
        contents[photo.label].add(anchor_of[photo.sha256])
    for label, hashes in sorted(contents.items()):
        if all(sides[sha256] != "train" for sha256 in hashes):
            sides |= dict.fromkeys(hashes, "train")
            warnings.append(
                f"class {label!r} is so small that no photo fell into train: all of it is in train,"
                " and nothing is left to check it with"
            )
    if rule.val_fraction > 0 and photos and "val" not in sides.values():
        moved = list(_move_to_val(contents, places, sides))
        warnings.append(
            f"no photo fell into val: one photo each of {', '.join(map(repr, moved)) or 'no class'}"
            " was moved there from train"
        )
    return {photo.path: sides[anchor_of[photo.sha256]] for photo in photos}, warnings


def _side_of_place(place: float, rule: SplitRule) -> Side:
    if place < rule.test_fraction:
        return "test"
    return "val" if place < rule.test_fraction + rule.val_fraction else "train"


def _move_to_val(
    contents: Mapping[str, set[str]], places: Mapping[str, float], sides: dict[str, Side]
) -> Iterator[str]:
    # A group under two labels moves as one, so every class that has a part in it must keep others.
    for label in sorted(contents):
        n_train = {name: sum(sides[sha256] == "train" for sha256 in hashes) for name, hashes in contents.items()}
        movable = [
            sha256
            for sha256 in contents[label]
            if sides[sha256] == "train"
            and all(n_train[name] >= 2 for name, hashes in contents.items() if sha256 in hashes)
        ]
        if movable:
            sides[min(movable, key=places.__getitem__)] = "val"
            yield label


def _assign_by_path(
    photos: list[CataloguedPhoto], assignments: Mapping[str, Side]
) -> tuple[dict[str, Side], list[str]]:
    missing = sorted(assignments.keys() - {photo.path for photo in photos})
    warnings = [f"the split file lists {some_of(missing)} not among the photos"] if missing else []
    return dict(assignments), warnings


def _warn_of_unlisted(photos: list[CataloguedPhoto]) -> list[str]:
    if not photos:
        return []
    named = some_of([photo.path for photo in photos])
    return [f"the split lists do not name {named}: on no side of the split"]


def _warn_of_absent_classes(photos: list[CataloguedPhoto], sides: Mapping[str, Side], side: Side) -> list[str]:
    there = {photo.label for photo in photos if sides.get(photo.path) == side}
    absent = sorted({photo.label for photo in photos} - there)
    return [f"no photo in {side} of: {', '.join(absent)}"] if absent else []
