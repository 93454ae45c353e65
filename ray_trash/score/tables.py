"""Encoded photos in a binary column of a Parquet file, read a few at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from ray_trash.errors import ConfigError, DataError
from ray_trash.storage import Storage

SUFFIXES = (".parquet", ".pq")
"""How a file is named that is read as a table; any other is one photo."""
_PATH_COLUMN = "path"
_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True)
class ParquetPhotos:
    """A Parquet file of photos in a folder's URI; a field of a column of structs is named `column.field`."""

    folder: str
    name: str
    column: str
    group_rows: tuple[int, ...]


def open_table(folder: Storage, name: str, column: str | None, *, shown: str) -> tuple[ParquetPhotos, pa.Array | None]:
    """Find the column of photos, by default the only binary one, and the column of paths, if it has one.

    Raises:
        ConfigError: There is no such column, or several that could be it.
        DataError: It is no Parquet file, or has no binary column.
    """
    with _opened(folder, name, shown) as file:
        found = [path for field in file.schema_arrow for path in _binary_columns(field)]
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
    with _opened(Storage.at(table.folder), table.name, table.name) as file:
        for batch in file.iter_batches(batch_rows, row_groups=[group], columns=[table.column]):
            photos = batch.column(0)
            while pa.types.is_struct(photos.type):
                # A photo is null where any struct around it is.
                photos = photos.flatten()[0]
            yield first, photos.cast(pa.large_binary())
            first += len(batch)


@contextmanager
def _opened(folder: Storage, name: str, shown: str) -> Iterator[pq.ParquetFile]:
    try:
        with folder.filesystem.open_input_file(f"{folder.path}/{name}") as source:
            yield pq.ParquetFile(source, buffer_size=_BUFFER_BYTES, pre_buffer=False)
    except (OSError, pa.ArrowException) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise DataError(f"{shown}: cannot be read as a Parquet file: {reason}") from error


def _binary_columns(field: pa.Field, above: str = "") -> Iterator[str]:
    name, kind = f"{above}{field.name}", field.type
    if pa.types.is_struct(kind):
        for number in range(kind.num_fields):
            yield from _binary_columns(kind.field(number), f"{name}.")
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
        yield name


def _names(file: pq.ParquetFile) -> str:
    return ", ".join(file.schema_arrow.names) or "no columns at all"
