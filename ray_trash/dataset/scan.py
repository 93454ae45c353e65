"""Every file of a data root read once, in Ray tasks: its hash, its verdict, its sketch and its pixels.

A bad photo is a row with a reason and takes no other with it.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data

from ray_trash.cluster.blocks import quiet
from ray_trash.cluster.shares import READ_TASK_CPUS
from ray_trash.cluster.waiting import fetch_all, wait_for_next
from ray_trash.dataset.catalog import CATALOG_SCHEMA
from ray_trash.dataset.columns import rows_in, table_of, table_of_rows
from ray_trash.dataset.groups.sketches import SKETCH_SCHEMA, sketch_columns
from ray_trash.dataset.listing import Listing
from ray_trash.dataset.read import PhotoFolder
from ray_trash.errors import ImageError
from ray_trash.image.decode import open_photo
from ray_trash.image.preprocess import Preprocessing, store_photo

PIXELS_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("height", pa.int32()),
        pa.field("width", pa.int32()),
        pa.field("pixels", pa.large_binary()),
    ]
)
"""Decoded photos: `pixels` holds height x width x 3 uint8 in C order, RGB."""

_KNOWN = ("path", "label", "size_bytes", "verdict", "reason", "message")
"""What the listing says of a file that is not read."""

MAX_BLOCK_ROWS = 64
MIN_BLOCK_ROWS = 4
TARGET_BLOCKS = 8
"""A small set still has this many blocks, unless they would have less than `MIN_BLOCK_ROWS`."""
MIN_TASK_ROWS = 32
"""Photos that are worth a process: as many are read while another one starts."""
TARGET_BLOCK_BYTES = 32 << 20
"""Decoded photos of a block, estimated at 4:3: what a task holds in memory at once."""


class Catalogued(NamedTuple):
    """What one look at every file gave.

    Attributes:
        catalog: One row a file (`CATALOG_SCHEMA`).
        sketches: Of the accepted photos, in the order of `row` (`SKETCH_SCHEMA`); empty unless asked for.
        decoded: The accepted photos, in Ray's object store (`PIXELS_SCHEMA`); None unless asked for.
    """

    catalog: pa.Table
    sketches: pa.Table
    decoded: ray.data.Dataset | None


def build_catalog(
    listing: Listing, preprocessing: Preprocessing, *, keep_pixels: bool = False, keep_sketches: bool = False
) -> Catalogued:
    """Read, hash and decode every listed file, once; needs a connection to Ray.

    What the listing ignored and rejected gets its rows too.

    Raises:
        ClusterError: No task ends in time.
    """
    entries = listing.entries.add_column(0, "row", pa.array(np.arange(len(listing.entries))))
    to_read = pc.is_null(entries["verdict"])
    pending, known = entries.filter(to_read), entries.filter(pc.invert(to_read))
    n_rows = _block_rows(len(pending), preprocessing.stored_short_side_px)
    look: Any = ray.remote(num_cpus=READ_TASK_CPUS, num_returns=3)(_look_at_block)
    settings = (PhotoFolder.at(listing.root), preprocessing, keep_pixels, keep_sketches)
    # Tasks ask for little, so that they run beside workers, and a fresh process for each costs seconds.
    n_tasks = min(max(1, len(pending) // MIN_TASK_ROWS), max(1, int(ray.cluster_resources().get("CPU", 1))))
    looked_at: list[Any] = []
    running: list[Any] = []
    for start in range(0, len(pending), n_rows):
        if len(running) == n_tasks:
            running = wait_for_next(running, what="the catalog")
        looked_at.append(look.remote(pending.slice(start, n_rows).combine_chunks(), *settings))
        running.append(looked_at[-1][0])
    catalogs, sketches, pixels = (list(refs) for refs in zip(*looked_at, strict=True))
    unread = table_of({name: known[name] for name in ("row", *_KNOWN)}, CATALOG_SCHEMA)
    return Catalogued(
        pa.concat_tables([unread, *fetch_all(catalogs, what="the catalog")]).sort_by("row").combine_chunks(),
        pa.concat_tables(fetch_all(sketches, what="the sketches")).combine_chunks(),
        quiet(ray.data.from_arrow_refs(pixels)) if keep_pixels else None,
    )


def _block_rows(n_rows: int, stored_short_side_px: int) -> int:
    photo_bytes = stored_short_side_px**2 * 4 // 3 * 3
    most = min(MAX_BLOCK_ROWS, max(1, TARGET_BLOCK_BYTES // photo_bytes))
    return min(most, max(MIN_BLOCK_ROWS, -(-n_rows // TARGET_BLOCKS)))


def _look_at_block(
    block: pa.Table, folder: PhotoFolder, preprocessing: Preprocessing, keep_pixels: bool, keep_sketches: bool
) -> tuple[pa.Table, pa.Table, pa.Table]:
    catalog: list[tuple[Any, ...]] = []
    sketches, decoded = [], []
    for row, path, label, listed_bytes in rows_in(block, "row", "path", "label", "size_bytes"):
        size_bytes, sha256 = listed_bytes, None
        try:
            encoded = folder.read(path)
            size_bytes, sha256 = len(encoded), hashlib.sha256(encoded).hexdigest()
            image = open_photo(encoded, min_short_side_px=preprocessing.stored_short_side_px)
        except ImageError as error:
            catalog.append((row, path, label, size_bytes, sha256, None, None, "rejected", error.code, str(error)))
            continue
        photo = store_photo(image, preprocessing)
        height, width, _ = photo.shape
        catalog.append((row, path, label, size_bytes, sha256, width, height, "accepted", None, None))
        if keep_pixels:
            decoded.append((row, height, width, photo.tobytes()))
        if keep_sketches:
            sketches.append({"row": row, **sketch_columns(image, photo)})
    return (
        table_of_rows(catalog, CATALOG_SCHEMA),
        pa.Table.from_pylist(sketches, schema=SKETCH_SCHEMA),
        table_of_rows(decoded, PIXELS_SCHEMA),
    )
