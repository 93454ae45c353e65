"""Which photo goes into which shard, and on which side of the split it is: decided before any is read."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa

from ray_trash.dataset.columns import rows_in
from ray_trash.dataset.layout import given_side
from ray_trash.dataset.listing import Listing
from ray_trash.dataset.official import assign_officially
from ray_trash.dataset.packed.form import FORMAT
from ray_trash.dataset.split import make_rule
from ray_trash.errors import ConfigError
from ray_trash.pack.shard import GROUP_BYTES, GROUP_ROWS, PLANNED_SCHEMA

SHARD_BYTES, SHARD_PHOTOS = 128 << 20, 1 << 15
"""A shard has at most so much, by the sizes that were listed, or is one photo: enough that an object store sends it at
full speed, few enough that a small set still has several tasks."""
_HASHED_ROWS = 1 << 14


@dataclass(frozen=True)
class Plan:
    """What is to be packed.

    Attributes:
        photos: Of `PLANNED_SCHEMA`, sorted by path.
        split: Where the sides come from, a kind of `SplitRule`; None where none are given.
        id: One hash of all this and the sizes listed: shards of another plan are written anew.
        warnings: Sentences for the user.
    """

    photos: pa.Table
    split: str | None
    id: str
    warnings: tuple[str, ...]

    def shards(self) -> list[pa.Table]:
        """Return the photos of each shard."""
        numbers = self.photos["shard"].to_numpy()
        starts = np.searchsorted(numbers, np.arange(numbers[-1] + 2))
        return [self.photos.slice(start, end - start) for start, end in pairwise(starts)]


def plan_pack(listing: Listing, split: str) -> Plan:
    """Plan the shards of what a listing says is to be read; `split` as `data.split`, but none that goes by content.

    Raises:
        ConfigError: The split is another one, or its file cannot be read.
        DataError: The file or the lists of the split cannot be used, or there are no folders train, val and test.
    """
    files = listing.files
    kind, sides, warnings = _given_sides(listing, files, split)
    photos = pa.table(
        {
            "path": files["path"],
            "label": files["label"],
            "split": sides,
            "shard": pa.array(_shard_numbers(files["size_bytes"].fill_null(0).to_numpy())),
        },
        schema=PLANNED_SCHEMA,
    ).combine_chunks()
    digest = hashlib.sha256(json.dumps([FORMAT, GROUP_BYTES, GROUP_ROWS, kind]).encode())
    for start in range(0, len(photos), _HASHED_ROWS):
        digest.update(json.dumps(photos.slice(start, _HASHED_ROWS).to_pydict()).encode())
        digest.update(json.dumps(files["size_bytes"].slice(start, _HASHED_ROWS).to_pylist()).encode())
    return Plan(photos, kind, digest.hexdigest(), warnings)


def _given_sides(listing: Listing, files: pa.Table, split: str) -> tuple[str | None, pa.Array, tuple[str, ...]]:
    rule = make_rule(split, 0.0, 0.0, listing)
    if rule.by_content or rule.kind == "official-clean":
        if split != "auto":
            raise ConfigError(
                f"--split {split}: goes by what is in the photos, and gives a packed set the same sides when it is "
                f"trained on: leave it out here, and set data.split={split} there"
            )
        return None, pa.nulls(len(files), pa.string()), ()
    if rule.kind == "folders":
        sides = [given_side(path, label) for path, label in rows_in(files, "path", "label")]
        return rule.kind, pa.array(sides, pa.string()), ()
    assigned, warnings = (rule.assignments, []) if rule.assignments else assign_officially(files, listing.root)
    sides = [assigned.get(path) for (path,) in rows_in(files, "path")]
    return rule.kind, pa.array(sides, pa.string()), tuple(warnings)


def _shard_numbers(sizes: np.ndarray) -> np.ndarray:
    numbers = np.empty(len(sizes), np.int32)
    number, n_photos, n_bytes = 0, 0, 0
    for row, size_bytes in enumerate(sizes.tolist()):
        if n_photos and (n_photos == SHARD_PHOTOS or n_bytes + size_bytes > SHARD_BYTES):
            number, n_photos, n_bytes = number + 1, 0, 0
        numbers[row] = number
        n_photos, n_bytes = n_photos + 1, n_bytes + size_bytes
    return numbers
