"""How many photos each side of the split will have, before any is decoded."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ray_trash.dataset.catalog import CATALOG_SCHEMA, SIDES
from ray_trash.dataset.columns import table_of
from ray_trash.dataset.listing import Listing
from ray_trash.dataset.read import PhotoFolder
from ray_trash.dataset.split import SplitRule, assign_splits
from ray_trash.errors import ImageError

READ_AT_MOST_BYTES = 256 << 20
"""A data root on this machine up to this size is read for its hashes, in about a second."""
COUNTED_AT_MOST = 20_000
"""Of more files only so many are put on sides, spread over the listing; shares are then right to half a percent."""


@dataclass(frozen=True)
class SideCounts:
    """Photos on each side; `about` where they are shares of what was counted, or depend on what files hold."""

    train: int
    val: int
    test: int
    about: bool


def count_sides(listing: Listing, rule: SplitRule) -> SideCounts:
    """Count as if every listed file were a photo, none shown twice; a side that training needs has one at least.

    Raises:
        DataError: The lists of an official split are missing, damaged, or contradict the folders.
    """
    n_files = len(listing.files)
    files = listing.files.take(np.arange(0, n_files, -(-n_files // COUNTED_AT_MOST)))
    by_content = rule.by_content or rule.val_fraction > 0
    hashes = _hashes(files, listing.root) if by_content else [""] * len(files)
    paths = files["path"].to_pylist()
    # Where contents are not read, names are as good as random too.
    keys = [known or hashlib.sha256(path.encode()).hexdigest() for known, path in zip(hashes, paths, strict=True)]
    columns = {name: files[name] for name in ("path", "label", "size_bytes")}
    columns |= {"row": pa.array(np.arange(len(files))), "sha256": pa.array(keys)}
    catalog = table_of({**columns, "verdict": pa.array(["accepted"] * len(files))}, CATALOG_SCHEMA)
    sides, _ = assign_splits(catalog, rule, listing.root)
    counts, scale = Counter(sides.to_pylist()), n_files / len(files)
    train, val, test = (round(counts[side] * scale) for side in SIDES)
    return SideCounts(max(1, train), max(1, val), test, about=scale > 1 or by_content)


def _hashes(files: pa.Table, root: str) -> list[str]:
    folder = PhotoFolder.at(root)
    if not folder.storage.is_local or (pc.sum(files["size_bytes"]).as_py() or 0) > READ_AT_MOST_BYTES:
        return [""] * len(files)
    return [_hash(folder, path) for path in files["path"].to_pylist()]


def _hash(folder: PhotoFolder, path: str) -> str:
    try:
        return hashlib.sha256(folder.read(path)).hexdigest()
    except ImageError:
        return ""
