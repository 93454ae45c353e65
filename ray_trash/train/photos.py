"""From a data root to what training needs: catalogue, split, audit, and the decoded photos where they fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from ray_trash.config import Config
from ray_trash.dataset.audit import build_audit
from ray_trash.dataset.catalog import build_catalog, fingerprint, photo_keys, require_usable_classes
from ray_trash.dataset.listing import Listing
from ray_trash.dataset.split import assign_splits, split_rule
from ray_trash.dataset.stream import PhotoTable
from ray_trash.errors import DataError
from ray_trash.evaluate.outputs import parquet_bytes
from ray_trash.storage import Storage
from ray_trash.train.job import preprocessing_of

CACHE_SHARE = 0.5
"""Share of a machine's object store that decoded photos may take; Ray Data needs the rest to work in."""
_NAMED = 5


@dataclass(frozen=True)
class TrainingPhotos:
    """The photos of one run.

    Attributes:
        classes: Names in label order.
        train: Photos to train on.
        val: Photos to validate on.
        decoded: Ray Data set of decoded photos; None where they are streamed.
        data: What a checkpoint says of its data.
    """

    classes: tuple[str, ...]
    train: PhotoTable
    val: PhotoTable
    decoded: ray.data.Dataset | None
    data: dict[str, Any]


def prepare_photos(config: Config, listing: Listing, run: Storage, say: Callable[[str], None]) -> TrainingPhotos:
    """Look at every photo once, split them, and write `audit.json` and `catalog.parquet`.

    Raises:
        DataError: There are bad photos and `data.on_bad_image` is `fail`, a class has no usable photo,
            or a side of the split is empty.
    """
    cached = _fits_in_memory(config, len(listing.files))
    catalog, decoded = build_catalog(listing, preprocessing_of(config), keep_pixels=cached)
    rule = split_rule(config.data.split, config.data.val_fraction, config.data.test_fraction)
    splits, warnings = assign_splits(catalog, rule, config.data.root)
    audit = build_audit(catalog, splits, [*listing.warnings, *warnings])
    run.write_bytes("audit.json", (json.dumps(audit, indent=2) + "\n").encode())
    run.write_bytes("catalog.parquet", parquet_bytes(catalog.append_column("split", pa.array(splits, pa.string()))))
    _report(audit, say)
    if audit["rejected"] and config.data.on_bad_image == "fail":
        raise DataError(
            f"data.on_bad_image=fail: {len(audit['rejected'])} bad photos, such as "
            f"{_name_some(audit['rejected'])}; mend or remove them, or set data.on_bad_image=quarantine"
        )
    require_usable_classes(catalog, listing.classes)
    sides = np.array([side or "" for side in splits])
    train, val = (_table(catalog, np.flatnonzero(sides == side), listing.classes) for side in ("train", "val"))
    if not len(train) or not len(val):
        raise DataError(
            f"data.split={config.data.split}: {len(train)} photos to train on and {len(val)} to validate; "
            "both need some, add photos or change the split"
        )
    data = {
        "fingerprint": fingerprint(catalog),
        "split": rule.to_json(),
        "n": {name: part["n"] for name, part in audit["splits"].items()},
    }
    return TrainingPhotos(listing.classes, train, val, decoded, data)


def _fits_in_memory(config: Config, n_files: int) -> bool:
    if config.data.cache != "auto":
        return config.data.cache == "memory"
    # Most photos are 4:3; the estimate need not be better than the choice of the budget.
    needed = n_files * config.image.stored_short_side_px**2 * 4 / 3 * 3
    if config.data.cache_budget_gib is not None:
        return needed <= config.data.cache_budget_gib * 2**30
    stores = [node["Resources"].get("object_store_memory", 0.0) for node in ray.nodes() if node["Alive"]]
    return bool(needed <= CACHE_SHARE * min(stores))


def _table(catalog: pa.Table, positions: np.ndarray, classes: tuple[str, ...]) -> PhotoTable:
    chosen = catalog.take(positions)
    number = {name: label for label, name in enumerate(classes)}
    return PhotoTable(
        rows=chosen.column("row").to_numpy(),
        paths=tuple(chosen.column("path").to_pylist()),
        labels=np.array([number[label] for label in chosen.column("label").to_pylist()], dtype=np.int64),
        keys=photo_keys(chosen),
    )


def _report(audit: dict[str, Any], say: Callable[[str], None]) -> None:
    counts = audit["counts"]
    say(
        f"{counts['seen']} files seen: {counts['accepted']} accepted, {counts['rejected']} rejected, "
        f"{counts['ignored']} ignored"
    )
    for warning in audit["warnings"]:
        say(f"warning: {warning}")
    if audit["rejected"]:
        say(f"rejected: {_name_some(audit['rejected'])}; all of them are in audit.json")
    for conflict in audit["conflicts"][:_NAMED]:
        say(f"warning: the same photo under two labels: {', '.join(conflict['paths'])}")


def _name_some(rejected: list[dict[str, Any]]) -> str:
    named = ", ".join(f"{entry['path']} ({entry['reason']})" for entry in rejected[:_NAMED])
    more = len(rejected) - _NAMED
    return named + (f" and {more} more" if more > 0 else "")
