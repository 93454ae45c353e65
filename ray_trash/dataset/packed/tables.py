"""Encoded photos in a binary column of any Parquet file: what it holds, and its rows, a few at a time or one by one."""

from __future__ import annotations

import bisect
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from threading import Lock
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from ray_trash.dataset.packed.latest import Latest
from ray_trash.errors import ConfigError, DataError, ImageError, StorageError
from ray_trash.storage import Storage

SUFFIXES = (".parquet", ".pq")
"""How a file is named that is read as a table; any other is one photo."""
SMALL_GROUP_BYTES = 32 << 20
"""A row group of photos up to this size is read in one go, and the last few are kept."""
_PATH_COLUMN = "path"
_BUFFER_BYTES, _BATCH_BYTES, _BATCH_ROWS = 1 << 20, 4 << 20, 64
_KEPT_TABLES, _KEPT_GROUPS = 16, 3
_ROW_PATH = re.compile(r"(.+\.(?:parquet|pq))#(\d+)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class ParquetPhotos:
    """A Parquet file of photos in a folder's URI; a field of a column of structs is named `column.field`."""

    folder: str
    name: str
    column: str
    group_rows: tuple[int, ...]


def is_table(storage: Storage) -> bool:
    """Say whether a place is a Parquet file by its name, and no folder; it is a `StorageError` if it cannot be seen."""
    if not storage.path.lower().endswith(SUFFIXES):
        return False
    try:
        return bool(storage.filesystem.get_file_info(storage.path).type == fs.FileType.File)
    except (OSError, pa.ArrowException) as error:
        raise StorageError(f"{storage.uri}: cannot be looked at: {_reason(error)}") from error


def open_table(folder: Storage, name: str, column: str | None, *, shown: str) -> tuple[ParquetPhotos, pa.Array | None]:
    """Find the column of photos, by default the only binary one, and the column of paths, if it has one.

    Raises:
        ConfigError: There is no such column, or several that could be it.
        DataError: It is no Parquet file, or has no binary column.
    """
    with opened(folder, name, shown) as file:
        found = binary_columns(file.schema_arrow)
        if column is None and len(found) > 1:
            raise ConfigError(f"{shown}: several columns may be the photos: {', '.join(found)}; say --column NAME")
        if not found:
            raise DataError(f"{shown}: no binary column, which would hold encoded photos; there are {_names(file)}")
        if column is not None and column not in found:
            raise ConfigError(f"--column {column}: {shown} has no such binary column; there are {', '.join(found)}")
        groups = tuple(file.metadata.row_group(number).num_rows for number in range(file.num_row_groups))
        table = ParquetPhotos(folder.uri, name, column or found[0], groups)
        field = next((field for field in file.schema_arrow if field.name == _PATH_COLUMN), None)
        if field is None or not (pa.types.is_string(field.type) or pa.types.is_large_string(field.type)):
            return table, None
        paths = file.read(columns=[_PATH_COLUMN]).column(0).cast(pa.string()).combine_chunks()
        return table, paths if paths.null_count == 0 else None


def read_rows(table: ParquetPhotos, group: int, *, batch_rows: int) -> Iterator[tuple[int, pa.Array]]:
    """Read the photos of one row group, `batch_rows` at a time; a file that was changed since is a `DataError`.

    Yields:
        The number in the file of the first row, and encoded photos, null where there is none.
    """
    first = sum(table.group_rows[:group])
    with opened(Storage.at(table.folder), table.name, table.name) as file:
        for batch in file.iter_batches(batch_rows, row_groups=[group], columns=[table.column]):
            yield first, _photos(batch.column(0))
            first += len(batch)


@contextmanager
def opened(folder: Storage, name: str, shown: str) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file for the block, or raise a `DataError` that calls it what is `shown`."""
    try:
        with folder.filesystem.open_input_file(f"{folder.path}/{name}") as source:
            yield pq.ParquetFile(source, buffer_size=_BUFFER_BYTES, pre_buffer=False)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{shown}: cannot be read as a Parquet file: {_reason(error)}") from error


def binary_columns(schema: pa.Schema) -> list[str]:
    """Name the columns and fields that may hold encoded photos."""
    return [path for field in schema for path in _binary_columns(field)]


def features_of(schema: pa.Schema) -> Mapping[str, Any]:
    """Return what Hugging Face's metadata says of the columns; nothing where there is none, or none that fits."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    return features if isinstance(features, dict) else {}


def photo_column(schema: pa.Schema) -> str | None:
    """Choose the column of photos: the only one, or what Hugging Face's metadata says is one, or a name that says it.

    None where there is no binary column, or several that could be it.
    """
    found = binary_columns(schema)
    if len(found) < 2:
        return found[0] if found else None
    features = features_of(schema)
    for is_meant in (
        lambda top: isinstance(features.get(top), dict) and features[top].get("_type") == "Image",
        lambda top: top in ("image", "img", "photo", "picture", "bytes"),
    ):
        meant = [name for name in found if is_meant(name.partition(".")[0])]
        if len(meant) == 1:
            return meant[0]
    return None


def row_path(name: str, row: int, n_rows: int) -> str:
    """Name a row of a Parquet file of so many as a photo: by its number, in as many digits as the last one has."""
    # So that rows are in their order where photos are sorted by their paths.
    return f"{name}#{row:0{len(str(n_rows - 1))}d}"


def split_row_path(path: str) -> tuple[str, int] | None:
    """Return the file and the row that `row_path` named; None where it named none."""
    match = _ROW_PATH.fullmatch(path)
    return (match[1], int(match[2])) if match else None


class TablePhotos:
    """Reads single rows of the Parquet files in a folder; may be used by several threads.

    A small row group is read whole. A large one is read from its start to the row, as little of it at a time as fits
    a few megabytes: rows in their order cost nothing more, others cost the way to them.
    """

    def __init__(self, storage: Storage) -> None:
        """Open nothing yet."""
        self._storage = storage
        self._tables: Latest[str, _Table] = Latest(self._open, _KEPT_TABLES)
        self._groups: Latest[tuple[str, int], pa.Array] = Latest(self._read_group, _KEPT_GROUPS)

    def read(self, name: str, row: int) -> bytes:
        """Read one photo; a row that is not there or holds none is an `ImageError`."""
        try:
            table = self._tables.get(name)
            group = bisect.bisect_right(table.starts, row) - 1
            if row >= table.starts[-1]:
                raise ImageError("unreadable", "the table has no such row")
            if table.group_bytes[group] <= SMALL_GROUP_BYTES:
                photo = self._groups.get((name, group))[row - table.starts[group]]
            else:
                photo = table.walk_to(group, row)
        except (OSError, pa.ArrowException) as error:
            raise ImageError("unreadable", f"the table cannot be read: {_reason(error)}") from error
        return photo.as_py() or b""

    def _open(self, name: str) -> _Table:
        return _Table(self._storage.filesystem.open_input_file(f"{self._storage.path}/{name}"))

    def _read_group(self, key: tuple[str, int]) -> pa.Array:
        name, group = key
        return self._tables.get(name).read_group(group)


class _Table:
    def __init__(self, source: Any) -> None:
        self._whole = pq.ParquetFile(source)
        metadata, column = self._whole.metadata, photo_column(self._whole.schema_arrow)
        if column is None:
            raise pa.ArrowInvalid("it has no column of photos any more")
        self._pieces = pq.ParquetFile(source, metadata=metadata, buffer_size=_BUFFER_BYTES, pre_buffer=False)
        self._column, self._lock = column, Lock()
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        self.starts = [0, *accumulate(group.num_rows for group in groups)]
        self.group_bytes = group_photo_bytes(metadata, column)
        self._walk: tuple[int, int, Iterator[pa.RecordBatch]] | None = None
        self._batch = pa.nulls(0, pa.large_binary())

    def read_group(self, group: int) -> pa.Array:
        return _photos(self._whole.read_row_group(group, columns=[self._column]).column(0).combine_chunks())

    def walk_to(self, group: int, row: int) -> pa.LargeBinaryScalar:
        with self._lock:
            walked, first, batches = self._walk or (-1, 0, iter(()))
            if walked != group or row < first:
                n_rows = self.starts[group + 1] - self.starts[group]
                batch_rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES * n_rows // self.group_bytes[group]))
                batches = self._pieces.iter_batches(batch_rows, row_groups=[group], columns=[self._column])
                first, self._batch = self.starts[group], pa.nulls(0, pa.large_binary())
            while row >= first + len(self._batch):
                first += len(self._batch)
                self._batch = _photos(next(batches).column(0))
            self._walk = group, first, batches
            return self._batch[row - first]


def group_photo_bytes(metadata: pq.FileMetaData, column: str) -> list[int]:
    """Return the uncompressed bytes of the photos of each row group."""
    names = [metadata.schema.column(number).path for number in range(len(metadata.schema))]
    place = names.index(column)
    return [
        metadata.row_group(number).column(place).total_uncompressed_size for number in range(metadata.num_row_groups)
    ]


def _photos(column: pa.Array) -> pa.Array:
    while pa.types.is_struct(column.type):
        # A photo is null where any struct around it is.
        column = column.flatten()[0]
    return column.cast(pa.large_binary())


def _binary_columns(field: pa.Field, above: str = "") -> Iterator[str]:
    name, kind = f"{above}{field.name}", field.type
    if pa.types.is_struct(kind):
        for number in range(kind.num_fields):
            yield from _binary_columns(kind.field(number), f"{name}.")
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        yield name


def _names(file: pq.ParquetFile) -> str:
    return ", ".join(file.schema_arrow.names) or "no columns at all"


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error).splitlines()[0]
