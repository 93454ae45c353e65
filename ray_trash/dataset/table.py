"""Tables that people and other programs write about photos: CSV in its dialects, or Parquet, as rows of text."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

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
        rows: Each with the number of its line, in Parquet of its row from 1, and as many cells as the header.
    """

    where: str
    header: Sequence[str]
    rows: Sequence[tuple[int, Sequence[str]]]

    def column(self, names: Sequence[str]) -> int | None:
        """Return the number of the column that has the first of these names, if there is one."""
        plain = [_plain(name) for name in self.header]
        return next((plain.index(name) for name in names if name in plain), None)

    def place(self, number: int) -> str:
        """Say for a message where a row is."""
        return f"{self.where}, line {number}"

    def shown(self, cells: Sequence[str]) -> str:
        """Show a row for a message."""
        return ", ".join(f"{name}={cell!r}" for name, cell in zip(self.header, cells, strict=True))


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
        text = content.decode(json.detect_encoding(content))
        lines = list(_read_csv(text))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        what = f"not UTF-8, as line {line} shows (perhaps Windows-1252)"
        if content.startswith(_ZIP_MAGIC):
            what = "an Excel workbook or an archive"
        raise DataError(f"{where} is {what}; save it as CSV in UTF-8") from error
    except csv.Error as error:
        raise DataError(f"{where} is no CSV text that can be read: {error}") from error
    if not lines:
        raise DataError(f"{where} is empty; it must begin with a line that names its columns")
    (_, header), *rows = lines
    for number, cells in rows:
        if len(cells) < len(header) or any(cells[len(header) :]):
            expected = f"as many cells as in its first line, {len(header)}"
            raise DataError(f"{where}, line {number}: expected {expected}, found {len(cells)}: {','.join(cells)!r}")
    return Table(where, header, [(number, cells[: len(header)]) for number, cells in rows])


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
        columns = [column.cast(pa.string()).to_pylist() for column in file.read(columns=plain).columns]
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{where} cannot be read as a Parquet file: {str(error).splitlines()[0]}") from error
    rows = zip(*columns, strict=True)
    return Table(where, plain, [(number, [cell or "" for cell in cells]) for number, cells in enumerate(rows, 1)])


def _is_plain(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return bool(is_text or pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name).lower()
