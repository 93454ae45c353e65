"""Which side of the split each photo is on: train, val, test, or none.

Nothing depends on the order of the files, on a random stream or on how many workers there are. The
rule is stored in a checkpoint, so that evaluation finds the same photos on the same side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ray_trash.dataset.assignments import read_assignments
from ray_trash.dataset.catalog import SIDES, Side, accepted_photos
from ray_trash.dataset.columns import rows_in, table_of_rows
from ray_trash.dataset.groups.relations import ONE_SHOT, Relation, anchors_of, connected
from ray_trash.dataset.layout import given_side, side_named
from ray_trash.dataset.listing import Listing, index_files
from ray_trash.dataset.official import assign_officially, has_official_lists, named_photos
from ray_trash.errors import ConfigError, DataError, StorageError

_HASH_PREFIX = b"ray-trash split"
"""Sets the hash apart from the content's own, which seeds augmentation."""

_Sides = NDArray[np.int64]
"""Of photos, by their places in `SIDES`, or `_NONE`."""
_TRAIN, _VAL, _TEST = map(SIDES.index, SIDES)
_NONE = -1

SplitKind = Literal["official", "official-clean", "folders", "labels", "grouped", "stratified", "file"]
_KINDS: tuple[SplitKind, ...] = ("official", "official-clean", "folders", "grouped", "stratified")
"""Those that a word asks for."""
_KEYS: dict[str, frozenset[str]] = {
    "official": frozenset(),
    "official-clean": frozenset({"left_out"}),
    "folders": frozenset({"val_fraction", "anchors"}),
    "labels": frozenset({"val_fraction", "anchors", "assignments"}),
    "grouped": frozenset({"val_fraction", "test_fraction", "anchors"}),
    "stratified": frozenset({"val_fraction", "test_fraction"}),
    "file": frozenset({"assignments"}),
}
"""What a stored rule says, beside its kind."""
_NOT_GIVEN = {
    "folders": "the folders train, val and test do not hold",
    "labels": "the table of labels gives no side of the split to",
}
_NO_TEST = {"folders": "there is no folder test with photos", "labels": "the table of labels says test of no photo"}


def _is_share(value: Any) -> bool:
    return isinstance(value, float | int) and 0 <= value < 1


def _are_hashes(value: Any) -> bool:
    return all(isinstance(text, str) for text in value)


_VALUES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "val_fraction": (_is_share, "in 0 to 1"),
    "test_fraction": (_is_share, "in 0 to 1"),
    "anchors": (lambda value: isinstance(value, Mapping) and _are_hashes(value.values()), "hashes by hashes"),
    "left_out": (lambda value: isinstance(value, list) and _are_hashes(value), "a list of hashes"),
    "assignments": (
        lambda value: isinstance(value, Mapping) and all(side in SIDES for side in value.values()),
        f"all one of {', '.join(SIDES)}",
    ),
}
"""What a stored value must be, in code and in words."""


@dataclass(frozen=True)
class SplitRule:
    """How photos are put on sides.

    Attributes:
        kind: By TrashNet's list files, as they are or without what they leak; by folders train, val and test, or a
            column of the table of labels; by a hash of the content, of whole groups or of single photos; or by a file
            of the user.
        val_fraction: Expected share in val, 0 to below 1; like `test_fraction` only for `grouped` and `stratified`, and
            for `folders` and `labels` without val, of what is in train.
        anchors: SHA-256 of each photo that is in a group to the one that stands for its group; only for `grouped`, and
            `folders` and `labels` without val.
        left_out: SHA-256 of photos that must not be trained on; only for `official-clean`.
        assignments: Side of each path relative to the data root; only for `file` and `labels`.
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

    def to_json(self) -> dict[str, Any]:
        """Return the rule as JSON holds it."""
        values = {**vars(self), "left_out": sorted(self.left_out)}
        return {name: value for name, value in values.items() if name in ("kind", *_KEYS[self.kind])}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SplitRule:
        """Rebuild what `to_json` gave; it is a `ValueError` if a key is missing, unknown, or of an impossible value."""
        if not isinstance(values, Mapping) or values.get("kind") not in list(_KEYS):
            raise ValueError(f"split rule: kind is none of {', '.join(_KEYS)}")
        if set(values) != {"kind", *_KEYS[values["kind"]]}:
            raise ValueError(f"split rule: unexpected keys for {values['kind']}: {sorted(values)}")
        for name in _KEYS[values["kind"]]:
            fits, what = _VALUES[name]
            if not fits(values[name]):
                raise ValueError(f"split rule: {name} is not {what}")
        return cls(**{**values, "left_out": frozenset(values.get("left_out", ()))})


def make_rule(split: str, val_fraction: float, test_fraction: float, listing: Listing) -> SplitRule:
    """Make the rule that is asked for: one of the words, or the path or URI of a table of paths and sides, read here.

    `auto` is what the table of labels says where it has sides, `official` where the photos have such lists, `folders`
    where they lie in folders train, val and test, else `grouped`; groups are added by `with_groups`. The fractions, 0
    to below 1, are together below 1.

    Raises:
        ConfigError: `split` is none of the words nor a file that can be read.
        DataError: The file is not a table of paths and sides, or there are no folders for `folders`.
    """
    if split == "auto" and (given := listing.assignments):
        fraction = 0.0 if "val" in given.values() else val_fraction
        return SplitRule("labels", fraction, assignments=given)
    if split == "auto":
        split = "official" if has_official_lists(listing) else "folders" if listing.sides else "grouped"
    kind = next((kind for kind in _KINDS if kind == split), None)
    if kind == "folders":
        return _rule_of_folders(listing, val_fraction)
    if kind in ("grouped", "stratified"):
        return SplitRule(kind, val_fraction, test_fraction)
    if kind is not None:
        return SplitRule(kind)
    try:
        return SplitRule("file", assignments=read_assignments(split, index_files(listing)))
    except StorageError as error:
        words = ", ".join(("auto", *_KINDS))
        raise ConfigError(f"data.split={split!r} is none of {words}, nor a file that can be read: {error}") from error


def with_groups(rule: SplitRule, catalog: pa.Table, relations: Sequence[Relation], root: str) -> SplitRule:
    """Return the rule with the groups it goes by, if it does."""
    if rule.kind == "grouped" or (rule.kind in ("folders", "labels") and rule.val_fraction > 0):
        return replace(rule, anchors=anchors_of(connected(relations), catalog["sha256"]))
    if rule.kind != "official-clean":
        return rule
    sides, _ = assign_splits(catalog, rule, root)
    left_out: set[str] = set()
    for group in connected(relation for relation in relations if relation.kind in ONE_SHOT):
        labels, given = (set(column.take(pa.array(group)).to_pylist()) for column in (catalog["label"], sides))
        if len(labels) > 1 or not given.isdisjoint(("val", "test")):
            left_out.update(catalog["sha256"].take(pa.array(group)).to_pylist())
    return replace(rule, left_out=frozenset(left_out))


def assign_splits(catalog: pa.Table, rule: SplitRule, root: str) -> tuple[pa.Array, list[str]]:
    """Return the side of each row of a catalog, null for those that are on none, and sentences for the user.

    Raises:
        DataError: The lists of `official` are missing, damaged, or contradict the folders.
    """
    accepted = accepted_photos(catalog)
    if rule.by_content:
        sides, warnings = _hash_onto_sides(accepted, rule)
    else:
        if rule.kind in ("folders", "labels"):
            sides, warnings = _follow_given(accepted, rule)
        elif rule.kind == "file":
            sides, warnings = _sides_by_path(accepted, rule.assignments), []
            missing = set(rule.assignments)
            missing.difference_update(path for (path,) in rows_in(catalog, "path"))
            if missing:
                warnings.append(f"the split file lists {named_photos(sorted(missing))} not among the photos")
        else:
            given, warnings = assign_officially(catalog, root)
            sides = _sides_by_path(accepted, given)
        unlisted = accepted["path"].filter(pa.array(sides == _NONE)).to_pylist()
        if unlisted:
            what = _NOT_GIVEN.get(rule.kind, "the split lists do not name")
            warnings.append(f"{what} {named_photos(unlisted)}: on no side of the split")
    if rule.left_out:
        left_out = pc.is_in(accepted["sha256"], pa.array(sorted(rule.left_out), pa.string()))
        sides[np.asarray(left_out) & (sides == _TRAIN)] = _NONE
    expected: list[Side] = ["train", "val"] if not rule.by_content or rule.val_fraction > 0 else ["train"]
    if rule.kind in ("folders", "labels") and (sides == _TEST).any():
        expected.append("test")
    labels = set(pc.unique(accepted["label"]).to_pylist())
    for side in expected:
        here = accepted["label"].filter(pa.array(sides == SIDES.index(side)))
        absent = labels - set(pc.unique(here).to_pylist())
        if absent:
            warnings.append(f"no photo in {side} of: {', '.join(sorted(absent))}")
    of_rows = np.full(len(catalog), _NONE)
    of_rows[np.asarray(pc.equal(catalog["verdict"], "accepted"))] = sides
    return pa.array(SIDES, pa.string()).take(pa.array(of_rows, mask=of_rows == _NONE)), warnings


def place_of(sha256: str) -> float:
    """Return where a content lies between 0 and 1: the same for ever, and as good as random."""
    digest = hashlib.sha256(_HASH_PREFIX + sha256.encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _rule_of_folders(listing: Listing, val_fraction: float) -> SplitRule:
    if not listing.sides:
        raise DataError(
            f"data.split=folders: {listing.root} has no folders train, val and test with the class folders in them; "
            "sort the photos so, or set data.split=grouped"
        )
    has_val = "val" in map(side_named, listing.sides)
    return SplitRule("folders", val_fraction=0.0 if has_val else val_fraction)


def _sides_by_path(photos: pa.Table, side_of: Mapping[str, Side]) -> _Sides:
    found = (side_of.get(path) for (path,) in rows_in(photos, "path"))
    return _sides(found, len(photos))


def _sides(found: Iterable[Side | None], count: int) -> _Sides:
    number = {side: SIDES.index(side) for side in SIDES}
    return np.fromiter((_NONE if side is None else number[side] for side in found), np.int64, count)


def _follow_given(photos: pa.Table, rule: SplitRule) -> tuple[_Sides, list[str]]:
    if rule.kind == "folders":
        sides = _sides((given_side(path, label) for path, label in rows_in(photos, "path", "label")), len(photos))
    else:
        sides = _sides_by_path(photos, rule.assignments)
    warnings: list[str] = []
    if rule.val_fraction > 0:
        train = sides == _TRAIN
        sides[train], warnings = _hash_onto_sides(photos.filter(pa.array(train)), rule)
    if not (sides == _TEST).any():
        warnings.append(f"{_NO_TEST[rule.kind]}: nothing is kept back to evaluate on")
    return sides, warnings


def _hash_onto_sides(photos: pa.Table, rule: SplitRule) -> tuple[_Sides, list[str]]:
    warnings = []
    names = (rule.anchors.get(sha256, sha256) for (sha256,) in rows_in(photos, "sha256"))
    anchors, anchor_of = _numbered(table_of_rows(((name,) for name in names), pa.schema([("anchor", pa.string())])))
    places = np.fromiter((place_of(anchor) for (anchor,) in rows_in(anchors, "anchor")), float, len(anchors))
    test, val = rule.test_fraction, rule.test_fraction + rule.val_fraction
    sides: _Sides = np.where(places < test, _TEST, np.where(places < val, _VAL, _TRAIN))
    labels, label_of = _numbered(photos.select(["label"]))
    # Each pair of a class and an anchor in it once, so that a group under two labels counts for both.
    pairs = np.unique(label_of * max(1, len(anchors)) + anchor_of)
    contents = {
        label: pairs[pairs // len(anchors) == number] % len(anchors)
        for number, label in enumerate(labels["label"].to_pylist())
    }
    for label, members in sorted(contents.items()):
        if (sides[members] != _TRAIN).all():
            sides[members] = _TRAIN
            warnings.append(
                f"class {label!r} is so small that no photo fell into train: all of it is in train,"
                " and nothing is left to check it with"
            )
    if rule.val_fraction > 0 and len(photos) and not (sides == _VAL).any():
        moved = list(_move_to_val(contents, places, sides))
        warnings.append(
            f"no photo fell into val: one photo each of {', '.join(map(repr, moved)) or 'no class'}"
            " was moved there from train"
        )
    return sides[anchor_of], warnings


def _numbered(column: pa.Table) -> tuple[pa.Table, NDArray[np.int64]]:
    """Return the distinct values of the only column, in the order in which they come, and the number of each row's."""
    values = column.column(0).combine_chunks().dictionary_encode()
    return pa.table([values.dictionary], names=column.column_names), np.asarray(values.indices, np.int64)


def _move_to_val(
    contents: Mapping[str, NDArray[np.int64]], places: NDArray[np.float64], sides: _Sides
) -> Iterator[str]:
    # A group under two labels moves as one, so every class that has a part in it must keep others.
    for label in sorted(contents):
        members = contents[label]
        movable = sides[members] == _TRAIN
        for others in contents.values():
            if (sides[others] == _TRAIN).sum() < 2:
                movable &= ~np.isin(members, others)
        if movable.any():
            candidates = members[movable]
            sides[candidates[places[candidates].argmin()]] = _VAL
            yield label
