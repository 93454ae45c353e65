"""The catalog: every file under a data root seen once, with its hash and a verdict.

A `Listing` goes in; a table with a row for every file comes out, and the decoded photos where they are
wanted, so that a photo is decoded once. Ray Data reads and decodes; one bad photo touches no other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray.data
from numpy.typing import NDArray
from pyarrow import fs

from ray_trash.dataset.listing import Listing
from ray_trash.dataset.walk import photo_location
from ray_trash.errors import DataError, ImageError
from ray_trash.image.decode import MAX_FILE_BYTES
from ray_trash.image.preprocess import Preprocessing, load_photo
from ray_trash.storage import Storage

CATALOG_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("path", pa.string()),
        ("label", pa.string()),
        ("size_bytes", pa.int64()),
        ("sha256", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("verdict", pa.string()),
        ("reason", pa.string()),
        ("message", pa.string()),
    ]
)
"""`width` and `height` are those of the photo as stored: upright and scaled down. `verdict` is accepted,
rejected or ignored; what was not accepted has a `reason`, and null where a value was never known."""

READ_CPUS = 0.25
"""CPUs Ray reserves for one reading task."""
PHOTOS_PER_BLOCK = 32
"""Photos one task reads: few enough that small sets use every core, and that memory stays flat."""


def build_catalog(
    listing: Listing, preprocessing: Preprocessing, *, keep_pixels: bool
) -> tuple[pa.Table, ray.data.Dataset | None]:
    """Read, hash and decode every listed file once; needs a connection to Ray.

    Args:
        listing: What lies under the root.
        preprocessing: How far photos are scaled down when they are decoded.
        keep_pixels: Whether the decoded photos are kept in Ray's object store.

    Returns:
        A table of `CATALOG_SCHEMA`, sorted by path, `row` counting from 0; and, where pixels are kept, a
        materialized Ray Data set of the accepted photos with `row`, `height`, `width` and `pixels`
        (height * width * 3 bytes, uint8 RGB).
    """
    findings = [(finding, "ignored") for finding in listing.ignored]
    findings += [(finding, "rejected") for finding in listing.rejected]
    paths = sorted([file.path for file in listing.files] + [finding.path for finding, _ in findings])
    row_of = {path: row for row, path in enumerate(paths)}
    unread = [
        {
            "row": row_of[finding.path],
            "path": finding.path,
            "verdict": verdict,
            "reason": finding.reason,
            "message": finding.message,
        }
        for finding, verdict in findings
    ]
    tables = [pa.Table.from_pylist(unread, schema=CATALOG_SCHEMA)]
    decoded: ray.data.Dataset | None = None
    if listing.files:
        todo = pa.table(
            {
                "row": pa.array([row_of[file.path] for file in listing.files], pa.int64()),
                "path": pa.array([file.path for file in listing.files], pa.string()),
                "label": pa.array([file.label for file in listing.files], pa.string()),
            }
        )
        blocks = [todo.slice(start, PHOTOS_PER_BLOCK) for start in range(0, len(todo), PHOTOS_PER_BLOCK)]
        with _quiet():
            inspected = (
                ray.data.from_arrow(blocks)
                .map_batches(
                    _inspect,
                    fn_kwargs={
                        "root": listing.root,
                        "preprocessing": preprocessing,
                        "keep_pixels": keep_pixels,
                    },
                    batch_size=None,
                    batch_format="pyarrow",
                    num_cpus=READ_CPUS,
                )
                .materialize()
            )
            for block in inspected.iter_batches(batch_size=None, batch_format="pyarrow"):
                tables.append(block.select(CATALOG_SCHEMA.names).cast(CATALOG_SCHEMA))
        decoded = inspected if keep_pixels else None
    return pa.concat_tables(tables).sort_by("row"), decoded


def _inspect(block: pa.Table, *, root: str, preprocessing: Preprocessing, keep_pixels: bool) -> pa.Table:
    storage = Storage.open(root)
    rows = []
    for source in block.to_pylist():
        row = {**source, "size_bytes": None, "sha256": None, "width": None, "height": None}
        row.update(verdict="accepted", reason=None, message=None, pixels=b"")
        try:
            encoded = read_photo_bytes(storage.filesystem, photo_location(storage.path, source["path"]))
            row.update(size_bytes=len(encoded), sha256=hashlib.sha256(encoded).hexdigest())
            photo = load_photo(encoded, preprocessing)
            row.update(height=photo.shape[0], width=photo.shape[1])
            if keep_pixels:
                row["pixels"] = photo.tobytes()
        except ImageError as error:
            row.update(verdict="rejected", reason=error.code, message=str(error))
        rows.append(row)
    schema = pa.schema([*CATALOG_SCHEMA, ("pixels", pa.large_binary())])
    return pa.Table.from_pylist(rows, schema=schema)


def read_photo_bytes(filesystem: fs.FileSystem, path: str) -> bytes:
    """Read one file, unless it is too large to be a photo.

    Args:
        filesystem: Where it is.
        path: Inside the filesystem.

    Raises:
        ImageError: `empty_file`, `too_large`, `not_a_regular_file` or `unreadable`.
    """
    try:
        info = filesystem.get_file_info(path)
        if info.type == fs.FileType.NotFound:
            raise ImageError("unreadable", "no such file")
        if info.type != fs.FileType.File:
            raise ImageError("not_a_regular_file", "not a regular file")
        if info.size == 0:
            raise ImageError("empty_file", "the file is empty")
        if info.size > MAX_FILE_BYTES:
            raise ImageError("too_large", f"{info.size:,} bytes; at most {MAX_FILE_BYTES:,} are read")
        with filesystem.open_input_file(path) as file:
            return bytes(file.read())
    except (OSError, pa.ArrowException) as error:
        raise ImageError(
            "unreadable", getattr(error, "strerror", None) or str(error).splitlines()[0]
        ) from error


def require_usable_classes(catalog: pa.Table, classes: Sequence[str]) -> None:
    """Refuse a set in which a class has no photo: label numbers must not shift in silence.

    Raises:
        DataError: It names the classes.
    """
    accepted = catalog.filter(pc.equal(catalog["verdict"], "accepted"))
    present = set(accepted["label"].to_pylist())
    empty = [name for name in classes if name not in present]
    if empty or len(classes) < 2:
        what = f"no usable photo in the class{'es' * (len(empty) > 1)} {', '.join(empty)}"
        if not empty:
            what = f"only one class, {classes[0]}"
        raise DataError(
            f"data.root: {what}; add photos, remove the folder, or name the classes in data.classes"
        )


def photo_keys(catalog: pa.Table) -> NDArray[np.uint64]:
    """Return a number for every row that follows from its bytes alone: what seeds its augmentation."""
    return np.array([int(sha256[:16], 16) for sha256 in catalog["sha256"].to_pylist()], dtype=np.uint64)


def fingerprint(catalog: pa.Table) -> str:
    """Return a SHA-256 over path, label and content of every accepted photo."""
    accepted = catalog.filter(pc.equal(catalog["verdict"], "accepted")).sort_by("path")
    digest = hashlib.sha256()
    for row in accepted.select(["path", "label", "sha256"]).to_pylist():
        digest.update(f"{row['path']}\0{row['label']}\0{row['sha256']}\n".encode())
    return digest.hexdigest()


@contextmanager
def _quiet() -> Iterator[None]:
    context = ray.data.DataContext.get_current()
    before = context.enable_progress_bars, context.print_on_execution_start
    context.enable_progress_bars = context.print_on_execution_start = False
    try:
        yield
    finally:
        context.enable_progress_bars, context.print_on_execution_start = before
