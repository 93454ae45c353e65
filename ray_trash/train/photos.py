"""From a data root to what training needs: catalogue, split, audit, and the decoded photos where they fit."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray

from ray_trash.audit.run import AUDIT_FILE, audit_photos, make_rule, write_audit
from ray_trash.config import Config
from ray_trash.dataset.catalog import fingerprint, photo_keys, require_usable_classes, trained_on
from ray_trash.dataset.listing import Listing
from ray_trash.dataset.stream import PhotoTable
from ray_trash.errors import DataError
from ray_trash.score.rows import parquet_bytes
from ray_trash.storage import Storage
from ray_trash.terminal.audit_table import audit_lines
from ray_trash.train.job import preprocessing_of

CACHE_SHARE = 0.5
"""Share of a machine's object store that decoded photos may take; Ray Data needs the rest to work in."""
CATALOG = "catalog.parquet"
_NAMED = 5
_NAMED_CHANGES = 20
_BALANCE = {
    "none": "nothing is done about it (train.class_balance=none)",
    "weights": "the loss is weighed by inverse class frequency",
    "sampler": "every class is drawn equally often",
}


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


def prepare_photos(
    config: Config,
    listing: Listing,
    run: Storage,
    say: Callable[[str], None],
    *,
    begun: bool,
    allow_changed_data: bool,
) -> TrainingPhotos:
    """Audit the photos, split them, and write `audit.json`, `audit.png` and `catalog.parquet`.

    Args:
        config: The resolved config.
        listing: The files under the data root.
        run: The run directory.
        say: Takes lines for people.
        begun: Whether something has been trained already, on the photos of `catalog.parquet`.
        allow_changed_data: Go on though those were other photos, or others were kept back.

    Raises:
        DataError: There are bad photos and `data.on_bad_image` is `fail`, a class has no usable photo,
            a side of the split is empty, or the photos are not those this run has trained on.
    """
    cached = _fits_in_memory(config, len(listing.files))
    rule = make_rule(config.data.split, config.data.val_fraction, config.data.test_fraction, listing)
    audited = audit_photos(
        listing,
        preprocessing_of(config),
        rule,
        balance=_BALANCE[config.train.class_balance],
        keep_pixels=cached,
        known=_known_audit(run),
    )
    catalog, splits, audit = audited.catalog, audited.sides, audited.document
    catalog = catalog.append_column("split", pa.array(splits, pa.string()))
    changes = _changes_since_training(run, catalog) if begun else ""
    if changes and not allow_changed_data:
        raise DataError(
            f"data.root: the photos are not those this run has trained on: {changes}; restore them and "
            "their split, start anew with --overwrite, or go on all the same with --allow-changed-data"
        )
    if changes:
        say(f"warning: going on with changed photos: {changes}")
    write_audit(audited, listing.root, run)
    run.write_bytes(CATALOG, parquet_bytes(catalog))
    for line in audit_lines(audit):
        say(line)
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
        "fingerprints": {name: part["fingerprint"] for name, part in audit["splits"].items()},
        "split": audited.rule.to_json(),
        "n": {name: part["n"] for name, part in audit["splits"].items()},
        "trained_on": trained_on(train.keys),
    }
    return TrainingPhotos(listing.classes, train, val, audited.decoded, data)


def _known_audit(run: Storage) -> dict[str, Any] | None:
    if not run.exists(AUDIT_FILE):
        return None
    try:
        known = json.loads(run.read_bytes(AUDIT_FILE))
    except ValueError:
        # Somebody has edited it; it is written anew.
        return None
    return known if isinstance(known, dict) else None


def _changes_since_training(run: Storage, catalog: pa.Table) -> str:
    if not run.exists(CATALOG):
        return ""
    before = _contents(pq.read_table(io.BytesIO(run.read_bytes(CATALOG))))
    now = _contents(catalog)
    both = before.keys() & now.keys()
    changes = {
        "gone": sorted(before.keys() - now.keys()),
        "new": sorted(now.keys() - before.keys()),
        "with another content": sorted(path for path in both if before[path][:-1] != now[path][:-1]),
        "on another side of the split": sorted(path for path in both if before[path][-1] != now[path][-1]),
    }
    return "; ".join(
        f"{len(paths)} {what} ({', '.join(paths[:_NAMED_CHANGES])}{', ...' if len(paths) > _NAMED_CHANGES else ''})"
        for what, paths in changes.items()
        if paths
    )


def _contents(catalog: pa.Table) -> dict[str, tuple[str | None, ...]]:
    accepted = catalog.filter(pc.equal(catalog["verdict"], "accepted"))
    columns = (accepted[name].to_pylist() for name in ("path", "label", "sha256", "split"))
    return {path: tuple(content) for path, *content in zip(*columns, strict=True)}


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


def _name_some(rejected: list[dict[str, Any]]) -> str:
    named = ", ".join(f"{entry['path']} ({entry['reason']})" for entry in rejected[:_NAMED])
    more = len(rejected) - _NAMED
    return named + (f" and {more} more" if more > 0 else "")
