"""Which side of the split each photo is on: pure functions of the catalog and a rule.

A catalog goes in, `train`, `val`, `test` or None for every row comes out, with sentences for the user.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from ray_trash.errors import DataError, StorageError
from ray_trash.storage import Storage

Side = Literal["train", "val", "test"]
SIDES: tuple[Side, ...] = ("train", "val", "test")
OFFICIAL_LIST = "one-indexed-files-notrash_{side}.txt"
OFFICIAL_CLASSES = {1: "glass", 2: "paper", 3: "cardboard", 4: "plastic", 5: "metal", 6: "trash"}
"""Class numbers of TrashNet's list files. Source: github.com/garythung/trashnet, data/."""
_SALT = "ray-trash split"


@dataclass(frozen=True)
class SplitRule:
    """How photos are split; kept in the checkpoint, so that `evaluate` splits as training did.

    Attributes:
        kind: `official` list files, `stratified` by content hash, or a `file` of assignments.
        val_fraction: Of `stratified`.
        test_fraction: Of `stratified`.
        assignments: Path to side, of `file`.
    """

    kind: Literal["official", "stratified", "file"]
    val_fraction: float = 0.0
    test_fraction: float = 0.0
    assignments: Mapping[str, str] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        if self.kind == "stratified":
            return {"kind": self.kind, "val_fraction": self.val_fraction, "test_fraction": self.test_fraction}
        if self.kind == "file":
            return {"kind": self.kind, "assignments": dict(self.assignments or {})}
        return {"kind": self.kind}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SplitRule:
        """Read what `to_json` gave.

        Raises:
            ValueError: It is not a rule.
        """
        if values.get("kind") not in ("official", "stratified", "file"):
            raise ValueError(f"no split rule: {dict(values)!r}")
        return cls(**values)


def split_rule(split: str, val_fraction: float, test_fraction: float) -> SplitRule:
    """Make the rule the config asks for.

    Raises:
        DataError: `split` is a file that cannot be read or is not a CSV of `path,split`.
    """
    if split == "official":
        return SplitRule("official")
    if split == "stratified":
        return SplitRule("stratified", val_fraction, test_fraction)
    return SplitRule("file", assignments=_read_assignments(split))


def _read_assignments(path: str) -> dict[str, str]:
    folder, _, name = path.rpartition("/")
    try:
        text = Storage.open(folder or ".").read_bytes(name).decode("utf-8-sig")
    except (StorageError, UnicodeDecodeError) as error:
        raise DataError(
            f"data.split={path}: cannot read it as a split file: {error}; or give official or stratified"
        ) from error
    reader = csv.DictReader(io.StringIO(text))
    if not {"path", "split"} <= set(reader.fieldnames or ()):
        raise DataError(f"data.split={path}: expected a CSV file with the header path,split")
    assignments: dict[str, str] = {}
    for row in reader:
        if row["split"] not in SIDES:
            raise DataError(
                f"data.split={path} line {reader.line_num}: split {row['split']!r}; expected {', '.join(SIDES)}"
            )
        if assignments.setdefault(row["path"], row["split"]) != row["split"]:
            raise DataError(f"data.split={path} line {reader.line_num}: {row['path']} is on two sides")
    return assignments


def assign_splits(catalog: pa.Table, rule: SplitRule, root: str) -> tuple[list[str | None], list[str]]:
    """Put every accepted photo on a side.

    Args:
        catalog: Of `build_catalog`.
        rule: How.
        root: The data root, beside whose photos `official` list files are looked for.

    Returns:
        For every row `train`, `val`, `test` or None, and warnings.

    Raises:
        DataError: The rule does not fit the photos.
    """
    rows = catalog.select(["path", "label", "sha256", "verdict"]).to_pylist()
    accepted = [index for index, row in enumerate(rows) if row["verdict"] == "accepted"]
    photos = [rows[index] for index in accepted]
    if rule.kind == "stratified":
        sides, warnings = _stratified(photos, rule)
    elif rule.kind == "official":
        sides, warnings = _official(photos, root)
    else:
        sides, warnings = _listed(photos, rule.assignments or {})
    result: list[str | None] = [None] * len(rows)
    for index, side in zip(accepted, sides, strict=True):
        result[index] = side
    warnings += _warn_of_gaps(photos, sides)
    return result, warnings


def _position(sha256: str) -> float:
    digest = hashlib.sha256(f"{_SALT}{sha256}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _stratified(photos: Sequence[Mapping[str, str]], rule: SplitRule) -> tuple[list[str | None], list[str]]:
    # A photo's side follows from its own bytes: photos that come or go move no other, and equal bytes
    # stay together. Every class then has its share of each side, but for chance.
    side_of: dict[str, str] = {}
    labels: dict[str, set[str]] = defaultdict(set)
    for photo in photos:
        position = _position(photo["sha256"])
        in_test = position < rule.test_fraction
        in_val = position < rule.test_fraction + rule.val_fraction
        side_of[photo["sha256"]] = "test" if in_test else "val" if in_val else "train"
        labels[photo["label"]].add(photo["sha256"])
    warnings = []
    for label, hashes in sorted(labels.items()):
        if all(side_of[sha256] != "train" for sha256 in hashes):
            side_of.update(dict.fromkeys(hashes, "train"))
            warnings.append(
                f"class {label} has {len(hashes)} photo{'s' * (len(hashes) > 1)}: all go to train"
            )
    if rule.val_fraction > 0 and photos and "val" not in side_of.values():
        lent = [min(hashes, key=_position) for _, hashes in sorted(labels.items()) if len(hashes) > 1]
        side_of.update(dict.fromkeys(lent, "val"))
        warnings.append(f"so few photos that none fell to validation: {len(lent)} moved there from train")
    return [side_of[photo["sha256"]] for photo in photos], warnings


def _official(photos: Sequence[Mapping[str, str]], root: str) -> tuple[list[str | None], list[str]]:
    side_of: dict[str, Side] = {}
    for side, text in _read_official_lists(photos, root).items():
        for number, line in enumerate(text.splitlines(), start=1):
            if not line.strip():
                continue
            name, _, digit = line.strip().rpartition(" ")
            label = OFFICIAL_CLASSES.get(int(digit)) if digit.isdigit() else None
            if not name or label is None:
                raise DataError(
                    f"{OFFICIAL_LIST.format(side=side)} line {number}: expected a file name and a class number, got {line!r}"
                )
            side_of[f"{label}/{name}"] = side
    keys = [f"{photo['label']}/{photo['path'].rpartition('/')[2]}" for photo in photos]
    sides: list[str | None] = [side_of.get(key) for key in keys]
    warnings = []
    absent = len(set(side_of) - set(keys))
    if absent == len(side_of):
        raise DataError(
            "data.split=official: none of the listed photos is here under its class; "
            "the lists belong to TrashNet, use data.split=stratified for other photos"
        )
    if absent:
        warnings.append(f"{absent} photos of the official lists are not here")
    unlisted = sum(side is None for side in sides)
    if unlisted:
        warnings.append(f"{unlisted} photos are in no official list and on no side")
    return sides, warnings


def _read_official_lists(photos: Sequence[Mapping[str, str]], root: str) -> dict[Side, str]:
    storage = Storage.open(root)
    depth = max((photo["path"].count("/") for photo in photos), default=1)
    inner = photos[0]["path"].split("/")[0] if photos and depth > 1 else ""
    parent = Storage.open(storage.uri.rstrip("/").rpartition("/")[0] or "/")
    places = [storage, *([storage.child(inner)] if inner else []), parent]
    for place in places:
        lists = {}
        for side in SIDES:
            name = OFFICIAL_LIST.format(side=side)
            if place.exists(name):
                lists[side] = place.read_bytes(name).decode("utf-8")
        if lists:
            missing = [OFFICIAL_LIST.format(side=side) for side in ("train", "val") if side not in lists]
            if missing:
                raise DataError(
                    f"data.split=official: {', '.join(missing)} is not in {place.uri}; fetch it, or use data.split=stratified"
                )
            return lists
    raise DataError(
        f"data.split=official: no {OFFICIAL_LIST.format(side='train')} in {storage.uri} or beside it; "
        "`ray-trash fetch trashnet` brings it, or use data.split=stratified"
    )


def _listed(
    photos: Sequence[Mapping[str, str]], assignments: Mapping[str, str]
) -> tuple[list[str | None], list[str]]:
    sides = [assignments.get(photo["path"]) for photo in photos]
    warnings = []
    absent = len(set(assignments) - {photo["path"] for photo in photos})
    if absent == len(assignments):
        raise DataError(
            "data.split: none of the paths in the split file is here; they are relative to data.root, with /"
        )
    if absent:
        warnings.append(f"{absent} photos of the split file are not here")
    unlisted = sum(side is None for side in sides)
    if unlisted:
        warnings.append(f"{unlisted} photos are not in the split file and on no side")
    return sides, warnings


def _warn_of_gaps(photos: Sequence[Mapping[str, str]], sides: Sequence[str | None]) -> list[str]:
    pairs = Counter((photo["label"], side) for photo, side in zip(photos, sides, strict=True))
    without = sorted({photo["label"] for photo in photos if not pairs[photo["label"], "val"]})
    return (
        [f"no validation photo in the class{'es' * (len(without) > 1)} {', '.join(without)}"]
        if without
        else []
    )
