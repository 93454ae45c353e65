"""Every file of a data root read once, in Ray tasks: its hash, its verdict, its sketch and its pixels.

A bad photo is a row with a reason and takes no other with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ray_trash.cluster.tasks import cluster_cpus, run_tasks, task
from ray_trash.cluster.waiting import fetch
from ray_trash.dataset.catalog import CATALOG_SCHEMA
from ray_trash.dataset.columns import rows_in, table_of, table_of_rows
from ray_trash.dataset.groups.sketches import (
    KEYPOINTS_SCHEMA,
    PICTURES_SCHEMA,
    SUMMARY_SCHEMA,
    Details,
    Reference,
    Sketches,
    sketch_columns,
    use_one_thread,
)
from ray_trash.dataset.listing import Listing
from ray_trash.dataset.read import PhotoFolder
from ray_trash.errors import ImageError
from ray_trash.image.decode import open_photo
from ray_trash.image.preprocess import Preprocessing, store_photo
from ray_trash.terminal.bar import Bar
from ray_trash.terminal.say import Terminal

PIXELS_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("height", pa.int32()),
        pa.field("width", pa.int32()),
        pa.field("pixels", pa.large_binary()),
    ]
)
"""Decoded photos: `pixels` holds height x width x 3 uint8 in C order, RGB."""

Decoded: TypeAlias = Sequence[Reference]
"""To tables of `PIXELS_SCHEMA`."""

_KNOWN = ("path", "label", "size_bytes", "verdict", "reason", "message")
"""What the listing says of a file that is not read."""

MAX_BLOCK_ROWS = 64
MIN_BLOCK_ROWS = 4
LARGEST_BLOCK_ROWS, MAX_BLOCKS = 256, 256
"""Where no pixels are kept, blocks grow once there would be more than so many: each costs milliseconds of Ray's time,
and some memory as long as it is there."""
TARGET_BLOCKS = 8
"""A small set still has this many blocks, unless they would have less than `MIN_BLOCK_ROWS`."""
MIN_TASK_ROWS = 32
"""Photos that are worth a process: as many are read while another one starts."""
TARGET_BLOCK_BYTES = 32 << 20
"""Decoded photos of a block, estimated at 4:3: what a task holds in memory at once."""


class Look(NamedTuple):
    """What reading a block of files gave: tables, or references to them.

    Attributes:
        catalog: One row a file (`CATALOG_SCHEMA`).
        summary: Of the sketches of those accepted (`SUMMARY_SCHEMA`), no rows unless asked for; likewise `keypoints`
            (`KEYPOINTS_SCHEMA`) and `pictures` (`PICTURES_SCHEMA`).
        pixels: Of those accepted (`PIXELS_SCHEMA`), no rows unless asked for.
    """

    catalog: Any
    summary: Any
    keypoints: Any
    pictures: Any
    pixels: Any


class Catalogued(NamedTuple):
    """What one look at every file gave.

    Attributes:
        catalog: One row a file (`CATALOG_SCHEMA`).
        sketches: Of the accepted photos, in the order of `row`; of none unless asked for.
        decoded: The accepted photos, in Ray's object store or here (`PIXELS_SCHEMA`); None unless asked for.
    """

    catalog: pa.Table
    sketches: Sketches
    decoded: Decoded | None


def build_catalog(
    listing: Listing,
    preprocessing: Preprocessing,
    *,
    keep_pixels: bool = False,
    keep_sketches: bool = False,
    terminal: Terminal | None = None,
) -> Catalogued:
    """Read, hash and decode every listed file, once: on Ray, or without a connection here.

    What the listing ignored and rejected gets its rows too. `terminal` is told how far this has come.

    Raises:
        ClusterError: No task ends in time.
    """
    entries = listing.entries.add_column(0, "row", pa.array(np.arange(len(listing.entries))))
    to_read = pc.is_null(entries["verdict"])
    pending, known = entries.filter(to_read), entries.filter(pc.invert(to_read))
    n_rows = _block_rows(len(pending), preprocessing.stored_short_side_px, keep_pixels=keep_pixels)
    look = task(look_at_block, n_returned=len(Look._fields))
    settings = (PhotoFolder.at(listing.root), preprocessing, keep_pixels, keep_sketches)
    starts = [partial(_start, look, pending.slice(start, n_rows), settings) for start in range(0, len(pending), n_rows)]
    # Tasks ask for little, so that they run beside workers, and a fresh process for each costs seconds.
    at_once = min(max(1, len(pending) // MIN_TASK_ROWS), cluster_cpus())
    looked_at: list[Any] = [None] * len(starts)
    what, doing = "the catalog", "reading and sketching" if keep_sketches else "reading"
    with Bar(terminal or Terminal.silent(), total=len(pending), doing=doing) as bar:
        for number, returned in run_tasks(starts, at_once=at_once, what=what):
            made = Look(*returned)
            details = Details(made.keypoints, made.pictures)
            looked_at[number] = fetch(made.catalog, what=what), fetch(made.summary, what=what), details, made.pixels
            bar.advance(len(looked_at[number][0]))
    catalogs, summaries, blocks, pixels = (list(found) for found in zip(*looked_at, strict=True))
    unread = table_of({name: known[name] for name in ("row", *_KNOWN)}, CATALOG_SCHEMA)
    return Catalogued(
        pa.concat_tables([unread, *catalogs]).sort_by("row").combine_chunks(),
        Sketches(
            pa.concat_tables(summaries).combine_chunks(), blocks, np.cumsum([0, *(len(one) for one in summaries)])
        ),
        pixels if keep_pixels else None,
    )


def _start(look: Any, block: pa.Table, settings: tuple[Any, ...]) -> Any:
    return look(block.combine_chunks(), *settings)


def _block_rows(n_rows: int, stored_short_side_px: int, *, keep_pixels: bool) -> int:
    photo_bytes = stored_short_side_px**2 * 4 // 3 * 3
    most = min(MAX_BLOCK_ROWS, max(1, TARGET_BLOCK_BYTES // photo_bytes))
    if not keep_pixels:
        most = max(MAX_BLOCK_ROWS, min(n_rows // MAX_BLOCKS, LARGEST_BLOCK_ROWS))
    return min(most, max(MIN_BLOCK_ROWS, -(-n_rows // TARGET_BLOCKS)))


def look_at_block(
    block: pa.Table, folder: PhotoFolder, preprocessing: Preprocessing, keep_pixels: bool, keep_sketches: bool
) -> Look:
    """Read files below a folder.

    `block` has the columns of a listing, and `row`.
    """
    if keep_sketches:
        use_one_thread()
    catalog: list[tuple[Any, ...]] = []
    sketches, decoded = [], []
    photos = folder.read_many(block["path"].to_pylist())
    for row, path, label, listed_bytes in rows_in(block, "row", "path", "label", "size_bytes"):
        size_bytes, sha256 = listed_bytes, None
        try:
            encoded = next(photos)
            if isinstance(encoded, ImageError):
                raise encoded
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
    summary, keypoints, pictures = (
        pa.Table.from_pylist(sketches, schema) for schema in (SUMMARY_SCHEMA, KEYPOINTS_SCHEMA, PICTURES_SCHEMA)
    )
    return Look(
        table_of_rows(catalog, CATALOG_SCHEMA), summary, keypoints, pictures, table_of_rows(decoded, PIXELS_SCHEMA)
    )
