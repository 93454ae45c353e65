"""How many photos each side of the split will have, before any is decoded."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ray_trash.dataset.catalog import SIDES, CatalogRow, catalog_of
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
    files = listing.files[:: -(-len(listing.files) // COUNTED_AT_MOST)]
    by_content = rule.by_content or rule.val_fraction > 0
    hashes = _hashes(files, listing.root) if by_content else [""] * len(files)
    rows = [
        # Where contents are not read, names are as good as random too.
        replace(file, row=row, verdict="accepted", sha256=sha256 or hashlib.sha256(file.path.encode()).hexdigest())
        for row, (file, sha256) in enumerate(zip(files, hashes, strict=True))
    ]
    sides, _ = assign_splits(catalog_of(rows), rule, listing.root)
    counts, scale = Counter(sides), len(listing.files) / len(files)
    train, val, test = (round(counts[side] * scale) for side in SIDES)
    return SideCounts(max(1, train), max(1, val), test, about=scale > 1 or by_content)


def _hashes(files: Sequence[CatalogRow], root: str) -> list[str]:
    folder = PhotoFolder.at(root)
    if not folder.storage.is_local or sum(file.size_bytes or 0 for file in files) > READ_AT_MOST_BYTES:
        return [""] * len(files)
    return [_hash(folder, file.path) for file in files]


def _hash(folder: PhotoFolder, path: str) -> str:
    try:
        return hashlib.sha256(folder.read(path)).hexdigest()
    except ImageError:
        return ""
