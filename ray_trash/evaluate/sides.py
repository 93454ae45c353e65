"""Photos that a checkpoint is judged by: those of its classes, on the sides that its own split rule puts them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Literal

import pyarrow as pa

from ray_trash.dataset.catalog import Side, accepted_photos, count_trained_on, on_side, photo_keys
from ray_trash.dataset.columns import rows_in, table_of_rows
from ray_trash.dataset.listing import LISTING_SCHEMA, Listing, list_photos
from ray_trash.dataset.names import nfc
from ray_trash.dataset.split import SplitRule, assign_splits
from ray_trash.errors import CheckpointError, DataError
from ray_trash.model.document import CheckpointDocument
from ray_trash.terminal.say import Terminal


def split_rule(document: CheckpointDocument, where: str, *, instead: str) -> SplitRule:
    """Return a checkpoint's split rule, or raise a `CheckpointError` that says what to do `instead`."""
    try:
        return SplitRule.from_json(document.data["split"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{where}: its split rule cannot be read ({error}); {instead}") from error


def list_of_classes(
    document: CheckpointDocument, data_root: str, *, labels_uri: str | None, terminal: Terminal
) -> Listing:
    """List photos and label them by the checkpoint's classes, of which they need not have all.

    Those of other classes are ignored and reported; where there is no other, that is a `DataError`.
    """
    follow_links = document.data.get("follow_links") is not False  # as in training
    listing = list_photos(data_root, labels_uri=labels_uri, follow_links=follow_links, terminal=terminal)
    classes = document.classes
    known = {nfc(name): name for name in classes}
    entries = table_of_rows(_relabelled(listing, known), LISTING_SCHEMA)
    restricted = replace(listing, classes=tuple(classes), entries=entries)
    n_unknown = len(listing.files) - len(restricted.files)
    if not len(restricted.files):
        advice = "".join(f"; {warning}" for warning in listing.warnings)
        raise DataError(
            f"{listing.root}: holds photos of {list(listing.classes)}, and the checkpoint knows none "
            f"of these; it knows {list(classes)}{advice}"
        )
    if not n_unknown:
        return restricted
    names = sorted(set(listing.classes) - known.keys())
    warning = f"{n_unknown} photos of classes the checkpoint does not know were ignored: {names}"
    return replace(restricted, warnings=(*listing.warnings, warning))


def _relabelled(listing: Listing, known: Mapping[str, str]) -> Iterator[tuple[str | int | None, ...]]:
    for path, label, size_bytes, verdict, reason, message, side in rows_in(listing.entries, *LISTING_SCHEMA.names):
        if verdict is not None:
            yield path, label, size_bytes, verdict, reason, message, side
        elif label in known:
            yield path, known[label], size_bytes, None, None, None, side
        else:
            yield path, None, None, "ignored", "not a class of the checkpoint", None, side


def put_on_sides(catalog: pa.Table, rule: SplitRule, root: str, *, instead: str) -> tuple[pa.Table, list[str]]:
    """Return the accepted photos of a catalog with their side in the column `split`, and sentences for the user.

    A split that does not fit them is a `DataError` that says what to do `instead`.
    """
    try:
        sides, warnings = assign_splits(catalog, rule, root)
    except DataError as error:
        raise DataError(f"{root}: the checkpoint's split does not fit these photos ({error}); {instead}") from error
    return accepted_photos(catalog.append_column("split", sides)), warnings


def photos_on(side: Side, sided: pa.Table, rule: SplitRule, root: str, *, instead: str) -> pa.Table:
    """Return those of `put_on_sides` on one side, or raise a `DataError` that says what to do `instead`."""
    photos = on_side(sided, side)
    if not len(photos):
        how = "split by folders train, val and test" if rule.kind == "folders" else f"{rule.kind} split"
        raise DataError(f"{root}: the split {side!r} has no photo ({how} of {len(sided)} photos); {instead}")
    return photos


def warnings_of(
    side: Side | Literal["all"], photos: pa.Table, found_fingerprint: str, document: CheckpointDocument
) -> list[str]:
    """Say what makes figures on these photos say less than they seem to."""
    warnings = []
    try:
        known = count_trained_on(document.data.get("trained_on", ""), photo_keys(photos))
    except ValueError:
        known = 0
    if known:
        warnings.append(
            f"{known} of these {len(photos)} photos were trained on: the figures say nothing about new photos"
        )
    if side == "val" and document.calibration.n:
        warnings.append("temperature and thresholds were fitted to these photos: new ones are answered less well")
    if side != "all" and found_fingerprint != document.data.get("fingerprint"):
        warnings.append(
            "these are not the photos the checkpoint was trained on, or not all of them, or some "
            "changed: its split rule was applied to what is there now"
        )
    return warnings
