"""From a data root to what training needs: catalog, groups, split, and the decoded photos where they fit."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from torch import Tensor

from ray_trash.audit.run import audit_photos, write_audit
from ray_trash.cluster.here import is_connected, is_little
from ray_trash.config import Config
from ray_trash.dataset.catalog import (
    SIDES,
    accepted_photos,
    fingerprint,
    on_side,
    photo_keys,
    require_usable_classes,
    require_usable_photos,
    trained_on,
)
from ray_trash.dataset.columns import rows_in
from ray_trash.dataset.listing import Listing
from ray_trash.dataset.photo_set import read_photo_set
from ray_trash.dataset.scan import Decoded
from ray_trash.dataset.split import SplitRule
from ray_trash.dataset.stream import PhotoTable
from ray_trash.errors import DataError
from ray_trash.image.preprocess import Preprocessing
from ray_trash.score.rows import parquet_bytes
from ray_trash.storage import Storage
from ray_trash.terminal.audit_table import audit_lines
from ray_trash.terminal.say import Terminal
from ray_trash.terminal.text import counted, listed

CACHE_SHARE = 0.5
"""Share of a machine's object store that decoded photos may take; Ray Data needs the rest to work in."""
CATALOG = "catalog.parquet"
_NAMED_CHANGES = 20
_BALANCE = {
    "none": "nothing is done about it (train.class_balance=none)",
    "weights": "the loss is weighed by inverse class frequency",
    "sampler": "every class is drawn equally often",
}


@dataclass(frozen=True)
class PreparedRun:
    """A run whose mistakes that show without a cluster have been looked for; it begins with `initial`, by name.

    `written` is the text of a `config.yaml` that is left in the run, where it has no config file of its own.
    """

    config: Config
    run: Storage
    listing: Listing
    rule: SplitRule
    initial: Mapping[str, Tensor]
    overwrite: bool
    allow_changed_data: bool
    written: str | None = None


@dataclass(frozen=True)
class TrainingPhotos:
    """The photos of one run; `decoded` is None where they are streamed, `data` what a checkpoint says of its data."""

    classes: tuple[str, ...]
    train: PhotoTable
    val: PhotoTable
    decoded: Decoded | None
    data: dict[str, Any]


def prepare_photos(prepared: PreparedRun, terminal: Terminal, *, begun: bool) -> TrainingPhotos:
    """Read the photos and split them, and write `catalog.parquet` and, for people, `audit.json` and `audit.png`.

    Where something has been trained already, on the photos of `catalog.parquet`, `allow_changed_data` goes on though
    those were other photos, or others were kept back.

    Raises:
        DataError: There are bad photos and `data.on_bad_image` is `fail`, a class has no usable photo,
            a side of the split is empty, or the photos are not those this run has trained on.
    """
    config, run, listing, say = prepared.config, prepared.run, prepared.listing, terminal.say
    cached = fits_in_memory(config, len(listing.files), _smallest_store_bytes())
    preprocessing = Preprocessing.from_config(config.image)
    photo_set = read_photo_set(listing, preprocessing, prepared.rule, keep_pixels=cached, terminal=terminal)
    catalog = photo_set.catalog
    changes = _changes_since_training(run, catalog) if begun else ""
    if changes and not prepared.allow_changed_data:
        raise DataError(
            f"data.root: the photos are not those this run has trained on: {changes}; restore them and "
            "their split, start anew with --overwrite, or go on all the same with --allow-changed-data"
        )
    if changes:
        say(f"warning: going on with changed photos: {changes}")
    audit = audit_photos(photo_set, balance=_BALANCE[config.train.class_balance], terminal=terminal)
    write_audit(audit, listing.root, run)
    run.write_bytes(CATALOG, parquet_bytes(catalog))
    for line in audit_lines(audit):
        say(line)
    require_usable_photos(catalog)
    rows = rows_in(catalog.filter(pc.equal(catalog["verdict"], "rejected")), "path", "reason")
    rejected = [f"{path} ({reason})" for path, reason in rows]
    if rejected and config.data.on_bad_image == "fail":
        raise DataError(
            f"data.on_bad_image=fail: {counted(len(rejected), 'bad photo')}, such as {listed(rejected)}; mend or "
            "remove them, or set data.on_bad_image=quarantine"
        )
    require_usable_classes(catalog, listing.classes)
    sides = {side: on_side(catalog, side) for side in SIDES}
    train, val = (_table(sides[side], listing.classes) for side in ("train", "val"))
    if not len(train) or not len(val):
        raise DataError(
            f"data.split={config.data.split}: {len(train)} photos to train on and {len(val)} to validate; "
            "both need some, add photos or change the split"
        )
    absent = set(listing.classes) - set(on_side(catalog, "train")["label"].to_pylist())
    if photo_set.rule.kind == "folders" and absent:
        raise DataError(
            f"data.split=folders: no photo to train on of {listed(map(repr, sorted(absent)))}; name the class folders "
            "in train as elsewhere, or leave the class out of data.classes"
        )
    data = {
        "fingerprint": fingerprint(catalog),
        "fingerprints": {side: fingerprint(photos) for side, photos in sides.items()},
        "split": photo_set.rule.to_json(),
        "follow_links": config.data.follow_links,
        "n": {side: len(photos) for side, photos in sides.items()},
        "trained_on": trained_on(train.keys),
    }
    return TrainingPhotos(listing.classes, train, val, photo_set.decoded, data)


def needs_ray(prepared: PreparedRun) -> bool:
    """Say whether a run needs a connection to Ray, as all do but those of few photos in the command's own process."""
    config, n_files = prepared.config, len(prepared.listing.files)
    little = config.train.workers in ("auto", 0) and is_little(n_files)
    return not (little and fits_in_memory(config, n_files, math.inf))


def _smallest_store_bytes() -> float:
    if not is_connected():
        return math.inf
    from ray_trash.cluster.inventory import inventory_of_cluster

    return min(machine.object_store_bytes for machine in inventory_of_cluster().machines)


def _changes_since_training(run: Storage, catalog: pa.Table) -> str:
    if not run.exists(CATALOG):
        return ""
    before = _contents(pq.read_table(io.BytesIO(run.read_bytes(CATALOG))))
    now = _contents(catalog)
    both = before.keys() & now.keys()
    changes = {
        "gone": sorted(before.keys() - now.keys()),
        "new": sorted(now.keys() - before.keys()),
        "with another content or label": sorted(path for path in both if before[path][:-1] != now[path][:-1]),
        "on another side of the split": sorted(path for path in both if before[path][-1] != now[path][-1]),
    }
    return "; ".join(
        f"{len(paths)} {what} ({listed(paths, _NAMED_CHANGES)})" for what, paths in changes.items() if paths
    )


def _contents(catalog: pa.Table) -> dict[str, list[str | None]]:
    rows = rows_in(accepted_photos(catalog), "path", "label", "sha256", "split")
    return {path: said for path, *said in rows}


def fits_in_memory(config: Config, n_files: int, object_store_bytes: float) -> bool:
    """Say whether photos are decoded once and kept, in object stores of which the smallest has so many bytes."""
    if config.data.cache != "auto":
        return config.data.cache == "memory"
    needed = decoded_bytes(config, n_files)
    if config.data.cache_budget_gib is not None:
        return needed <= config.data.cache_budget_gib * 2**30
    return needed <= CACHE_SHARE * object_store_bytes


def decoded_bytes(config: Config, n_files: int) -> float:
    """Return about how many bytes photos have once they are decoded."""
    # Most photos are 4:3; the estimate need not be better than the choice of the budget.
    return n_files * config.image.stored_short_side_px**2 * 4 / 3 * 3


def _table(photos: pa.Table, classes: tuple[str, ...]) -> PhotoTable:
    number = {name: label for label, name in enumerate(classes)}
    return PhotoTable(
        rows=photos["row"].to_numpy(),
        paths=tuple(photos["path"].to_pylist()),
        labels=np.array([number[label] for label in photos["label"].to_pylist()], dtype=np.int64),
        keys=photo_keys(photos),
    )
