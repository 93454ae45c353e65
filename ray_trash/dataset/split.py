"""Which side of the split each photo is on: train, val, test, or none.

Nothing depends on the order of the files, on a random stream or on how many workers there are. The
rule is stored in a checkpoint, so that evaluation finds the same photos on the same side.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pyarrow as pa

from ray_trash.dataset.assignments import read_assignments
from ray_trash.dataset.catalog import SIDES, CatalogRow, Side, rows_of
from ray_trash.dataset.groups.relations import ONE_SHOT, Relation, anchors_of, connected
from ray_trash.dataset.layout import given_side, side_named
from ray_trash.dataset.listing import Listing, index_files
from ray_trash.dataset.official import assign_officially, has_official_lists, named_photos
from ray_trash.errors import ConfigError, DataError, StorageError

_HASH_PREFIX = b"ray-trash split"
"""Sets the hash apart from the content's own, which seeds augmentation."""

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
    if split == "auto" and listing.assignments:
        fraction = 0.0 if "val" in listing.assignments.values() else val_fraction
        return SplitRule("labels", fraction, assignments=listing.assignments)
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
    sha256 = catalog["sha256"].to_pylist()
    if rule.kind == "grouped" or (rule.kind in ("folders", "labels") and rule.val_fraction > 0):
        return replace(rule, anchors=anchors_of(connected(relations), sha256))
    if rule.kind != "official-clean":
        return rule
    labels = catalog["label"].to_pylist()
    sides, _ = assign_splits(catalog, rule, root)
    left_out = {
        sha256[row]
        for group in connected(relation for relation in relations if relation.kind in ONE_SHOT)
        if len({labels[row] for row in group}) > 1 or any(sides[row] in ("val", "test") for row in group)
        for row in group
    }
    return replace(rule, left_out=frozenset(left_out))


def assign_splits(catalog: pa.Table, rule: SplitRule, root: str) -> tuple[list[Side | None], list[str]]:
    """Return the side of each row of a catalog, None for those that are on none, and sentences for the user.

    Raises:
        DataError: The lists of `official` are missing, damaged, or contradict the folders.
    """
    photos = rows_of(catalog)
    accepted = [photo for photo in photos if photo.accepted]
    if rule.by_content:
        sides, warnings = _hash_onto_sides(accepted, rule)
    else:
        if rule.kind in ("folders", "labels"):
            sides, warnings = _follow_given(accepted, rule)
        elif rule.kind == "file":
            sides = dict(rule.assignments)
            missing = sorted(sides.keys() - {photo.path for photo in photos})
            warnings = [f"the split file lists {named_photos(missing)} not among the photos"] if missing else []
        else:
            sides, warnings = assign_officially(photos, root)
        unlisted = [photo.path for photo in accepted if photo.path not in sides]
        if unlisted:
            what = _NOT_GIVEN.get(rule.kind, "the split lists do not name")
            warnings.append(f"{what} {named_photos(unlisted)}: on no side of the split")
    for photo in accepted:
        if photo.sha256 in rule.left_out and sides.get(photo.path) == "train":
            del sides[photo.path]
    labels = {str(photo.label) for photo in accepted}
    expected: list[Side] = ["train", "val"] if not rule.by_content or rule.val_fraction > 0 else ["train"]
    if rule.kind in ("folders", "labels") and "test" in sides.values():
        expected.append("test")
    for side in expected:
        absent = labels - {photo.label for photo in accepted if sides.get(photo.path) == side}
        if absent:
            warnings.append(f"no photo in {side} of: {', '.join(sorted(absent))}")
    return [sides.get(photo.path) if photo.accepted else None for photo in photos], warnings


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


def _follow_given(photos: Sequence[CatalogRow], rule: SplitRule) -> tuple[dict[str, Side], list[str]]:
    given: Iterable[tuple[str, Side | None]] = (
        ((photo.path, given_side(photo.path, photo.label)) for photo in photos)
        if rule.kind == "folders"
        else ((photo.path, rule.assignments.get(photo.path)) for photo in photos)
    )
    sides = {path: side for path, side in given if side is not None}
    warnings: list[str] = []
    if rule.val_fraction > 0:
        taken, warnings = _hash_onto_sides([photo for photo in photos if sides.get(photo.path) == "train"], rule)
        sides |= taken
    if "test" not in sides.values():
        warnings.append(f"{_NO_TEST[rule.kind]}: nothing is kept back to evaluate on")
    return sides, warnings


def _hash_onto_sides(photos: Sequence[CatalogRow], rule: SplitRule) -> tuple[dict[str, Side], list[str]]:
    warnings = []
    anchor_of = {photo.path: rule.anchors.get(str(photo.sha256), str(photo.sha256)) for photo in photos}
    places = {anchor: place_of(anchor) for anchor in anchor_of.values()}
    test, val = rule.test_fraction, rule.test_fraction + rule.val_fraction
    sides: dict[str, Side] = {
        anchor: "test" if place < test else "val" if place < val else "train" for anchor, place in places.items()
    }
    contents = defaultdict(set)
    for photo in photos:
        contents[str(photo.label)].add(anchor_of[photo.path])
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
    return {path: sides[anchor] for path, anchor in anchor_of.items()}, warnings


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
