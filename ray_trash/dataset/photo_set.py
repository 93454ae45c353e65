"""A data root read, grouped and split: what training, tuning and the audit begin with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from ray_trash.dataset.groups.find import find_relations
from ray_trash.dataset.groups.relations import Relation
from ray_trash.dataset.groups.sketches import Sketches
from ray_trash.dataset.listing import Listing
from ray_trash.dataset.scan import Decoded, build_catalog
from ray_trash.dataset.split import SplitRule, assign_splits, with_groups
from ray_trash.image.preprocess import Preprocessing
from ray_trash.terminal.say import Terminal


@dataclass(frozen=True)
class PhotoSet:
    """The photos of a data root, as `build_catalog` gives them, and with `split` a column of the catalog.

    Attributes:
        relations: Which photos belong together, by rows of the catalog.
        rule: The split's rule, with the groups it goes by.
        warnings: What the listing and the split have to say.
    """

    catalog: pa.Table
    sketches: Sketches
    decoded: Decoded | None
    relations: Sequence[Relation]
    rule: SplitRule
    warnings: Sequence[str]


def read_photo_set(
    listing: Listing,
    preprocessing: Preprocessing,
    rule: SplitRule,
    *,
    keep_pixels: bool = False,
    terminal: Terminal | None = None,
) -> PhotoSet:
    """Read every file once, find what belongs together, and split: on Ray, or without a connection here.

    `terminal` is told how far this has come.

    Raises:
        DataError: The lists of an official split are missing, damaged, or contradict the folders.
    """
    terminal = terminal or Terminal.silent()
    catalog, sketches, decoded = build_catalog(
        listing, preprocessing, keep_pixels=keep_pixels, keep_sketches=True, terminal=terminal
    )
    relations = find_relations(
        catalog,
        sketches,
        listing.root,
        min_short_side_px=preprocessing.stored_short_side_px,
        terminal=terminal,
    )
    rule = with_groups(rule, catalog, relations, listing.root)
    sides, warnings = assign_splits(catalog, rule, listing.root)
    catalog = catalog.append_column("split", sides)
    return PhotoSet(catalog, sketches, decoded, relations, rule, [*listing.warnings, *warnings])
