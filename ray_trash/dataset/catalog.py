"""Every file of a data root looked at once: its hash, its size and a verdict, by Ray Data.

A `Listing` goes in; a table comes out with one row a file, and the decoded photos where they are
wanted. A bad photo is a row with a reason and takes no other with it. Knows nothing of splits.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import os
import stat
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data
from numpy.typing import NDArray
from pyarrow import fs

from ray_trash.cluster.waiting import fetch_all
from ray_trash.dataset.groups.sketches import SKETCH_SCHEMA, sketch_columns
from ray_trash.dataset.listing import Listing
from ray_trash.dataset.walk import photo_location
from ray_trash.errors import DataError, ImageError
from ray_trash.image.decode import MAX_FILE_BYTES, open_photo
from ray_trash.image.preprocess import Preprocessing, store_photo
from ray_trash.storage import Storage

CATALOG_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("size_bytes", pa.int64()),
        pa.field("sha256", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("verdict", pa.string(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("message", pa.string()),
    ]
)
"""A catalog. `row` counts from 0 in the order of `path`; `verdict` is `accepted`, `rejected` or
`ignored`, the last two with a `reason`; `sha256` is that of the file's bytes, in hex, null where they
were not read; `width` and `height` are those of the upright photo as it is kept, null unless accepted."""

PIXELS_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("height", pa.int32()),
        pa.field("width", pa.int32()),
        pa.field("pixels", pa.large_binary()),
    ]
)
"""Decoded photos: `pixels` holds height x width x 3 uint8 in C order, RGB."""

_PENDING_SCHEMA = pa.schema([CATALOG_SCHEMA.field(name) for name in ("row", "path", "label", "size_bytes")])

READ_CPUS = 0.25
"""CPUs that Ray reserves for a reading task: enough to limit them, few enough to run beside workers."""
MAX_BLOCK_ROWS = 64
MIN_BLOCK_ROWS = 4
TARGET_BLOCKS = 8
"""A small set still has this many blocks, unless they would have less than `MIN_BLOCK_ROWS`."""
MIN_TASK_ROWS = 32
"""Photos that are worth a process: as many are looked at while another one starts."""
TARGET_BLOCK_BYTES = 32 << 20
"""Decoded photos of a block, estimated at 4:3: what a task holds in memory at once."""


@dataclass(frozen=True)
class LookedAt:
    """What one look at every file gave.

    Attributes:
        catalog: One row a file (`CATALOG_SCHEMA`).
        decoded: The accepted photos by `row`, a materialised dataset (`PIXELS_SCHEMA`); None unless asked for.
        sketches: Their sketches by `row` (`SKETCH_SCHEMA`), in the order of `row`; None unless asked for.
    """

    catalog: pa.Table
    decoded: ray.data.Dataset | None
    sketches: pa.Table | None


def build_catalog(
    listing: Listing, preprocessing: Preprocessing, *, keep_pixels: bool = False, keep_sketches: bool = False
) -> LookedAt:
    """Read, hash and decode every listed file, once.

    Args:
        listing: Of the data root; its ignored and rejected files get their rows too.
        preprocessing: Gives the size that photos are decoded down to.
        keep_pixels: Return the decoded photos as well, in Ray's object store.
        keep_sketches: Return their sketches as well.
    """
    rows = _number_rows(listing)
    pending = pa.Table.from_pylist(rows["pending"], schema=_PENDING_SCHEMA)
    known = pa.Table.from_pylist(rows["known"], schema=CATALOG_SCHEMA)
    n_rows = _block_rows(len(pending), preprocessing.stored_short_side_px)
    blocks = [pending.slice(start, n_rows) for start in range(0, len(pending), n_rows)]
    look = functools.partial(
        _look_at_block,
        storage=Storage.at(listing.root),
        preprocessing=preprocessing,
        keep_pixels=keep_pixels,
        keep_sketches=keep_sketches,
    )
    # Tasks ask for little, so that they run beside workers, and a fresh process for each costs seconds.
    n_tasks = min(max(1, len(pending) // MIN_TASK_ROWS), max(1, int(ray.cluster_resources().get("CPU", 1))))
    looked_at = _quiet(ray.data.from_arrow(blocks)).map_batches(
        look, batch_size=None, batch_format="pyarrow", num_cpus=READ_CPUS, compute=ray.data.TaskPoolStrategy(n_tasks)
    )
    refs = looked_at.materialize().to_arrow_refs()
    del looked_at
    if not keep_pixels:
        rest, decoded = fetch_all(refs, what="the catalogue"), None
    else:
        parts = _part_blocks(refs, n_tasks)
        rest = fetch_all([rows for rows, _ in parts], what="the catalogue")
        decoded = _quiet(ray.data.from_arrow_refs([pixels for _, pixels in parts]))
    catalog = _assemble([known, *(block.select(CATALOG_SCHEMA.names).cast(CATALOG_SCHEMA) for block in rest)])
    if not keep_sketches:
        return LookedAt(catalog, decoded, None)
    empty = SKETCH_SCHEMA.empty_table()
    sketches = [_accepted(block).select(SKETCH_SCHEMA.names).cast(SKETCH_SCHEMA) for block in rest]
    return LookedAt(catalog, decoded, _assemble([empty, *sketches]))


def read_photo_bytes(filesystem: fs.FileSystem, path: str) -> bytes:
    """Read one file whole.

    Args:
        filesystem: Where it is.
        path: Inside the filesystem, as `photo_location` gives it.

    Returns:
        Its bytes: at least one, at most `MAX_FILE_BYTES`.

    Raises:
        ImageError: It is empty, too large, no regular file, or cannot be read.
    """
    try:
        encoded = _read_local(path) if isinstance(filesystem, fs.LocalFileSystem) else _read_remote(filesystem, path)
    except (OSError, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or str(error).partition("\n")[0]
        raise ImageError("unreadable", f"the file cannot be read: {reason}") from error
    _check_size(len(encoded))
    return encoded


def photo_keys(catalog: pa.Table) -> NDArray[np.uint64]:
    """Return what seeds the augmentation of each photo, whatever it is called.

    Args:
        catalog: Rows that have a `sha256`.

    Returns:
        Array (rows,), uint64: the first 8 bytes of the hash, big-endian.
    """
    starts = [int(sha256[:16], 16) for sha256 in catalog["sha256"].to_pylist()]
    return np.array(starts, dtype=np.uint64)


def trained_on(keys: NDArray[np.uint64]) -> str:
    """Pack which photos were trained on, as a checkpoint keeps it.

    Args:
        keys: As `photo_keys` gives them.

    Returns:
        Base64 of the sorted keys, 8 bytes each, big-endian.
    """
    return base64.b64encode(np.unique(keys).astype(">u8").tobytes()).decode()


def join_trained_on(packed: str, more: str) -> str:
    """Pack the photos of two that `trained_on` packed."""
    return trained_on(np.concatenate([_unpacked(packed), _unpacked(more)]))


def _unpacked(packed: str) -> NDArray[np.uint64]:
    return np.frombuffer(base64.b64decode(packed, validate=True), ">u8").astype(np.uint64)


def count_trained_on(packed: str, keys: NDArray[np.uint64]) -> int:
    """Count how many photos are among those that `trained_on` packed.

    Raises:
        ValueError: `packed` is something else.
    """
    return int(np.isin(keys, _unpacked(packed)).sum())


def fingerprint(catalog: pa.Table) -> str:
    """Return one hash of all that was accepted: paths, labels and contents, in hex."""
    accepted = _accepted(catalog)
    columns = (accepted[name].to_pylist() for name in ("path", "label", "sha256"))
    photos = sorted(zip(*columns, strict=True))
    return hashlib.sha256(json.dumps(photos).encode()).hexdigest()


def require_usable_classes(catalog: pa.Table, classes: Sequence[str]) -> None:
    """Refuse a data set that a classifier cannot be trained on.

    Raises:
        DataError: There are fewer than two classes, or one has no accepted photo.
    """
    if len(classes) < 2:
        raise DataError(f"data.root: the only class is {classes[0]!r}; a classifier needs at least two class folders")
    labels = catalog["label"].to_pylist()
    accepted = {
        label for label, verdict in zip(labels, catalog["verdict"].to_pylist(), strict=True) if verdict == "accepted"
    }
    empty = [name for name in classes if name not in accepted]
    if empty:
        counts = Counter(labels)
        named = ", ".join(f"{name!r} ({counts[name]} rejected)" for name in empty)
        raise DataError(
            f"data.root: no usable photo of {named}; add photos, remove the folder, or leave the"
            " class out of data.classes"
        )


def _number_rows(listing: Listing) -> dict[str, list[dict[str, Any]]]:
    files = [(file.path, "pending", {"label": file.label, "size_bytes": file.size_bytes}) for file in listing.files]
    found: list[tuple[str, str, dict[str, Any]]] = [
        (finding.path, "known", {"verdict": verdict, "reason": finding.reason, "message": finding.message or None})
        for verdict, findings in (("ignored", listing.ignored), ("rejected", listing.rejected))
        for finding in findings
    ]
    rows: dict[str, list[dict[str, Any]]] = {"pending": [], "known": []}
    for number, (path, kind, values) in enumerate(sorted([*files, *found], key=lambda row: row[0])):
        rows[kind].append({"row": number, "path": path, **values})
    return rows


def _block_rows(n_rows: int, stored_short_side_px: int) -> int:
    photo_bytes = stored_short_side_px**2 * 4 // 3 * 3
    most = min(MAX_BLOCK_ROWS, max(1, TARGET_BLOCK_BYTES // photo_bytes))
    return min(most, max(MIN_BLOCK_ROWS, -(-n_rows // TARGET_BLOCKS)))


def _quiet(dataset: ray.data.Dataset) -> ray.data.Dataset:
    # The dataset's own copy: the settings of the rest of the program stay as they are.
    dataset.context.enable_progress_bars = False
    dataset.context.print_on_execution_start = False
    dataset.context.execution_options.preserve_order = True
    return dataset


def _look_at_block(
    block: pa.Table, *, storage: Storage, preprocessing: Preprocessing, keep_pixels: bool, keep_sketches: bool
) -> pa.Table:
    schema = CATALOG_SCHEMA
    for extra, wanted in ((PIXELS_SCHEMA, keep_pixels), (SKETCH_SCHEMA, keep_sketches)):
        for field in extra if wanted else ():
            schema = schema if field.name in schema.names else schema.append(field)
    rows = [_look_at(row, storage, preprocessing, keep_pixels, keep_sketches) for row in block.to_pylist()]
    return pa.Table.from_pylist(rows, schema=schema)


def _look_at(
    row: dict[str, Any], storage: Storage, preprocessing: Preprocessing, keep_pixels: bool, keep_sketches: bool
) -> dict[str, Any]:
    try:
        encoded = read_photo_bytes(storage.filesystem, photo_location(storage.path, row["path"]))
        row |= {"size_bytes": len(encoded), "sha256": hashlib.sha256(encoded).hexdigest()}
        image = open_photo(encoded, min_short_side_px=preprocessing.stored_short_side_px)
    except ImageError as error:
        return row | {"verdict": "rejected", "reason": error.code, "message": str(error)}
    photo = store_photo(image, preprocessing)
    height_px, width_px, _ = photo.shape
    row |= {"verdict": "accepted", "height": height_px, "width": width_px}
    if keep_pixels:
        row |= {"pixels": photo.tobytes()}
    return row | sketch_columns(image, photo) if keep_sketches else row


def _part_blocks(refs: list[Any], n_tasks: int) -> list[tuple[Any, Any]]:
    part = ray.remote(num_cpus=READ_CPUS, num_returns=2)(_part_block)
    parts: list[Any] = []
    running: list[Any] = []
    refs.reverse()
    while refs:
        if len(running) == n_tasks:
            _, running = ray.wait(running, fetch_local=False)
        # Popped, so that a block as read is freed once its two parts are there.
        parts.append(part.remote(refs.pop()))
        running.append(parts[-1][0])
    return parts


def _part_block(block: pa.Table) -> tuple[pa.Table, pa.Table]:
    return block.drop_columns(["pixels"]), _accepted(block).select(PIXELS_SCHEMA.names)


def _accepted(block: pa.Table) -> pa.Table:
    return block.filter(pc.equal(block["verdict"], "accepted"))


def _assemble(blocks: Sequence[pa.Table]) -> pa.Table:
    return pa.concat_tables(blocks).sort_by("row").combine_chunks()


def _read_local(path: str) -> bytes:
    # Looked at first: merely opening a pipe waits for a writer, and opening a device may do things.
    _check_regular(os.stat(path))
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(handle)
        _check_regular(status)
        _check_size(status.st_size)
        return file.read(MAX_FILE_BYTES + 1)


def _read_remote(filesystem: fs.FileSystem, path: str) -> bytes:
    with filesystem.open_input_file(path) as file:
        _check_size(file.size())
        return bytes(file.read(MAX_FILE_BYTES + 1))


def _check_regular(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ImageError("not_a_regular_file", "it is no regular file")


def _check_size(size_bytes: int) -> None:
    if size_bytes == 0:
        raise ImageError("empty_file", "the file is empty")
    if size_bytes > MAX_FILE_BYTES:
        raise ImageError(
            "too_large",
            f"the file has {size_bytes / 2**20:.0f} MiB, at most {MAX_FILE_BYTES >> 20} are read",
        )
