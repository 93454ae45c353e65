"""One shard of a packed set: the photos of a plan read and written a few at a time, and where each one then lies."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ray_trash.dataset.packed.form import PLAN_KEY, SHARD_SCHEMA, shard_name
from ray_trash.dataset.packed.photos import LENGTH_BYTES
from ray_trash.dataset.read import PhotoFolder
from ray_trash.errors import ImageError, StorageError
from ray_trash.storage import Storage

PLANNED_SCHEMA = pa.schema({"path": pa.string(), "label": pa.string(), "split": pa.string(), "shard": pa.int32()})
"""What is to be packed: a row a photo."""
DONE_SCHEMA = pa.schema(
    [
        *PLANNED_SCHEMA,
        pa.field("offset", pa.int64()),
        pa.field("size_bytes", pa.int64()),
        pa.field("sha256", pa.string()),
        pa.field("shard_bytes", pa.int64()),
        pa.field("reason", pa.string()),
        pa.field("message", pa.string()),
    ]
)
"""What became of it: where its bytes begin in a shard of `shard_bytes`, or the reason why it cannot be read."""

GROUP_BYTES, GROUP_ROWS = 4 << 20, 1024
"""A row group is written once it has so much: what a task holds, and what other programs read at a time."""
_PAGE_BYTES = 1 << 30
"""So that the bytes of a row group are one page, one after the other."""
_READ_ROWS = 64


def write_shard(planned: pa.Table, *, folder: PhotoFolder, target: Storage, plan: str) -> pa.Table:
    """Write one shard whole or not at all, unless it is there, and return `DONE_SCHEMA` in the order of the plan.

    Raises:
        StorageError: It cannot be written, or what was written cannot be read back.
    """
    name = shard_name(planned["shard"][0].as_py())
    done = _read_shard(planned, target, name, plan) if target.exists(name) else None
    if done is None:
        done = _write(planned, folder, target, name, plan)
        _check(done, target, name)
    return done


def _write(planned: pa.Table, folder: PhotoFolder, target: Storage, name: str, plan: str) -> pa.Table:
    rows = planned.to_pylist()
    schema = SHARD_SCHEMA.with_metadata({PLAN_KEY: plan.encode()})
    written: list[list[dict[str, Any]]] = []
    with target.writing(name) as sink:
        footer: list[pq.FileMetaData] = []
        writer = pq.ParquetWriter(
            sink,
            schema,
            compression={"path": "zstd", "label": "zstd", "split": "zstd", "bytes": "none", "sha256": "none"},
            use_dictionary=["label", "split"],
            write_statistics=["path", "label", "split"],
            data_page_size=_PAGE_BYTES,
            metadata_collector=footer,
        )
        for group in _groups(rows, folder):
            photos = [row.pop("encoded") for row in group]
            columns = {key: [row[key] for row in group] for key in ("path", "label", "sha256", "split")}
            writer.write_table(pa.table({**columns, "bytes": photos}, schema=schema), row_group_size=len(group))
            written.append(group)
        writer.close()  # not after an error: that of a full disk would be hidden by what closing then raises
        shard_bytes = sink.tell()
    for number, group in enumerate(written):
        offsets = _offsets(footer[0].row_group(number), [row["size_bytes"] for row in group])
        for row, offset in zip(group, offsets, strict=True):
            row["offset"] = offset
    return pa.Table.from_pylist([{**row, "shard_bytes": shard_bytes} for row in rows], schema=DONE_SCHEMA)


def _groups(rows: list[dict[str, Any]], folder: PhotoFolder) -> Iterator[list[dict[str, Any]]]:
    """Read photos, and yield the rows of each row group with their bytes; a row that cannot be read says why."""
    group: list[dict[str, Any]] = []
    n_bytes = 0
    for start in range(0, len(rows), _READ_ROWS):
        read = rows[start : start + _READ_ROWS]
        for row, encoded in zip(read, folder.read_many([row["path"] for row in read]), strict=True):
            if isinstance(encoded, ImageError):
                row |= {"reason": encoded.code, "message": str(encoded)}
                continue
            row |= {"encoded": encoded, "size_bytes": len(encoded), "sha256": hashlib.sha256(encoded).hexdigest()}
            group.append(row)
            n_bytes += len(encoded)
            if n_bytes >= GROUP_BYTES or len(group) >= GROUP_ROWS:
                yield group
                group, n_bytes = [], 0
    if group:
        yield group


def _offsets(group: pq.RowGroupMetaData, sizes: list[int]) -> list[int]:
    """Return where in the file each photo of a row group begins: its column is one page of lengths and bytes."""
    column = group.column(SHARD_SCHEMA.get_field_index("bytes"))
    end = column.data_page_offset + column.total_compressed_size
    offset = end - sum(sizes) - LENGTH_BYTES * len(sizes)
    offsets = []
    for size_bytes in sizes:
        offsets.append(offset + LENGTH_BYTES)
        offset += LENGTH_BYTES + size_bytes
    return offsets


def _read_shard(planned: pa.Table, target: Storage, name: str, plan: str) -> pa.Table | None:
    """Return what an earlier start wrote, if it was of the same plan and is whole; None where it must be written."""
    try:
        with target.filesystem.open_input_file(f"{target.path}/{name}") as source:
            file = pq.ParquetFile(source)
            if (file.schema_arrow.metadata or {}).get(PLAN_KEY) != plan.encode():
                return None
            there: dict[str, dict[str, Any]] = {}
            for number in range(file.num_row_groups):
                rows = file.read_row_group(number).to_pylist()
                sizes = [len(row["bytes"]) for row in rows]
                offsets = _offsets(file.metadata.row_group(number), sizes)
                for row, size_bytes, offset in zip(rows, sizes, offsets, strict=True):
                    if hashlib.sha256(row["bytes"]).hexdigest() != row["sha256"]:
                        return None
                    place = {"offset": offset, "size_bytes": size_bytes, "shard_bytes": source.size()}
                    there[row["path"]] = {"sha256": row["sha256"], **place}
    except (OSError, pa.ArrowException):
        return None
    rows = [row | there.get(row["path"], {}) for row in planned.to_pylist()]
    # Why one could not be read was not kept: then it is tried again.
    return pa.Table.from_pylist(rows, schema=DONE_SCHEMA) if len(there) == len(rows) else None


def _check(done: pa.Table, target: Storage, name: str) -> None:
    packed = done.filter(done["offset"].is_valid())
    if not len(packed):
        return
    last = packed.slice(len(packed) - 1).to_pylist()[0]
    try:
        with target.filesystem.open_input_file(f"{target.path}/{name}") as file:
            photo, size_bytes = file.read_at(last["size_bytes"], last["offset"]), file.size()
    except (OSError, pa.ArrowException) as error:
        raise StorageError(f"{target.uri}/{name}: cannot be read back: {str(error).splitlines()[0]}") from error
    if hashlib.sha256(photo).hexdigest() != last["sha256"] or size_bytes != last["shard_bytes"]:
        raise StorageError(f"{target.uri}/{name}: what is there is not what was written")
