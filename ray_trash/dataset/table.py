"""Tables that people and other programs write about photos: CSV in its dialects, or Parquet, as rows of text."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ray_trash.dataset.columns import rows_in, table_of_rows
from ray_trash.errors import DataError
from ray_trash.storage import Storage

PATH_COLUMNS = (
    *("path", "filepath", "imagepath", "imgpath", "photopath", "relativepath", "filename", "file", "fname"),
    *("imagename", "imgname", "photoname", "imagefile", "image", "images", "img", "photo", "picture"),
    *("imageid", "imgid", "photoid", "id", "name"),
)
LABEL_COLUMNS = (
    *("labelname", "classname", "categoryname", "label", "labels", "class", "category", "target"),
    *("labelid", "classid", "categoryid"),
)
SPLIT_COLUMNS = ("split", "subset", "partition", "set", "side")
"""What columns are called, in lower case and letters and digits only; where a table has several, the first of these.
Source: the tables of data sets on Kaggle and Hugging Face (`image_id,label`, `file_name,label`, `id,breed`)."""

_DELIMITERS = ",;\t|"
_PARQUET_MAGIC, _ZIP_MAGIC = b"PAR1", b"PK\x03\x04"


@dataclass(frozen=True)
class Table:
    """Rows of text under a header.

    Attributes:
        where: The key and the file, for messages.
        header: Names of the columns as written.
        lines: The number of each row's line, in Parquet of its row from 1.
        cells: Columns of text in the order of the header, whatever their names.
    """

    where: str
    header: Sequence[str]
    lines: pa.ChunkedArray
    cells: pa.Table

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self.lines)

    def rows(self) -> Iterator[tuple[int, Sequence[str]]]:
        """Yield each row's line and its cells, as many as the header has."""
        numbered = self.cells.add_column(0, "line", self.lines)
        for line, *cells in rows_in(numbered, *numbered.column_names):
            yield line, cells

    def row(self, number: int) -> tuple[int, Sequence[str]]:
        """Return the line and the cells of one row."""
        return self.lines[number].as_py(), [column[number].as_py() for column in self.cells.columns]

    def column(self, names: Sequence[str]) -> int | None:
        """Return the number of the column that has the first of these names, if there is one."""
        return column_named(self.header, names)

    def shown(self, cells: Sequence[str]) -> str:
        """Show a row for a message."""
        return ", ".join(f"{name}={cell!r}" for name, cell in zip(self.header, cells, strict=True))


def column_named(header: Sequence[str], names: Sequence[str]) -> int | None:
    """Return the number of the column that has the first of some plain names, if there is one."""
    plain = [_plain(name) for name in header]
    return next((plain.index(name) for name in names if name in plain), None)


def read_table(uri: str, key: str) -> Table:
    """Read a table, local or at a URI; `key` of the config names it.

    CSV may have commas, semicolons, tabs or bars between its cells, and be UTF-8 or UTF-16, with or without a mark in
    front. A row whose cells are all empty is none.

    Raises:
        StorageError: The file cannot be read.
        DataError: It is no such table, or a row has other cells than the header.
    """
    folder, name = Storage.of_file(uri)
    content = folder.read_bytes(name)
    where = f"{key}: {uri}"
    if content.startswith(_PARQUET_MAGIC):
        return _read_parquet(content, where)
    try:
        # Named for JSON, but all it goes by is marks and zero bytes.
        lines = _read_csv(content.decode(json.detect_encoding(content)))
        _, header = next(lines, (0, []))
        if not header:
            raise DataError(f"{where} is empty; it must begin with a line that names its columns")
        fields = [pa.field("line", pa.int64()), *(pa.field(str(number), pa.string()) for number in range(len(header)))]
        rows = table_of_rows(_cut_to(header, lines, where), pa.schema(fields))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        what = f"not UTF-8, as line {line} shows (perhaps Windows-1252)"
        if content.startswith(_ZIP_MAGIC):
            what = "an Excel workbook or an archive"
        raise DataError(f"{where} is {what}; save it as CSV in UTF-8") from error
    except csv.Error as error:
        raise DataError(f"{where} is no CSV text that can be read: {error}") from error
    return Table(where, header, rows["line"], rows.drop_columns(["line"]))


def _cut_to(
    header: Sequence[str], lines: Iterable[tuple[int, list[str]]], where: str
) -> Iterator[tuple[int | str, ...]]:
    for number, cells in lines:
        if len(cells) < len(header) or any(cells[len(header) :]):
            expected = f"as many cells as in its first line, {len(header)}"
            raise DataError(f"{where}, line {number}: expected {expected}, found {len(cells)}: {','.join(cells)!r}")
        yield (number, *cells[: len(header)])


def _read_csv(text: str) -> Iterator[tuple[int, list[str]]]:
    start = 0
    if mark := re.match(r"sep=.\r?\n", text):  # what Excel writes for itself
        start = mark.end()
    first = next((line for line in text[start:].splitlines() if line.strip()), "")
    delimiter = max(_DELIMITERS, key=lambda character: len(next(csv.reader([first], delimiter=character), [])))
    reader = csv.reader(io.StringIO(text[start:], newline=""), delimiter=delimiter, strict=True)
    for cells in reader:
        if any(map(str.strip, cells)):
            yield reader.line_num + (start > 0), cells


def _read_parquet(content: bytes, where: str) -> Table:
    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        plain = [field.name for field in file.schema_arrow if _is_plain(field.type)]
        columns = [pc.fill_null(column.cast(pa.string()), "") for column in file.read(columns=plain).columns]
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{where} cannot be read as a Parquet file: {str(error).splitlines()[0]}") from error
    cells = pa.table(columns, names=[str(number) for number in range(len(columns))])
    return Table(where, plain, pa.chunked_array([np.arange(1, len(cells) + 1)]), cells)


def _is_plain(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return bool(is_text or pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()
