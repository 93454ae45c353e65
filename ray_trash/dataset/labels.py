"""Labels from a table instead of from folders, as the data sets of Kaggle and Hugging Face have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from ray_trash.dataset.assignments import read_side
from ray_trash.dataset.catalog import Side
from ray_trash.dataset.names import nfc
from ray_trash.dataset.photo_index import PhotoIndex, match_rows
from ray_trash.dataset.table import LABEL_COLUMNS, PATH_COLUMNS, SPLIT_COLUMNS, Table, read_table
from ray_trash.errors import ConfigError, DataError, StorageError
from ray_trash.terminal.text import counted


@dataclass(frozen=True)
class TableLabels:
    """What a table says of each path of an index, null where it says nothing; `sides` where it has a column of them."""

    labels: pa.Array
    sides: pa.Array
    warnings: Sequence[str]


def read_labels(uri: str, index: PhotoIndex) -> TableLabels:
    """Read the table of `data.labels`: a path and a label in each row, and perhaps a side of the split.

    Labels are words, also where they are numbers. Where no column is called like one of labels, the only other one is.

    Raises:
        ConfigError: The file cannot be read.
        DataError: It is no such table, a row has no label or contradicts another one, or none names a photo.
    """
    try:
        table = read_table(uri, "data.labels")
    except StorageError as error:
        raise ConfigError(f"data.labels: {error}") from error
    path_column, label_column, side_column = _columns(table)

    def label_and_side(cells: Sequence[str]) -> tuple[str, Side | None]:
        label = nfc(cells[label_column].strip())
        if not label:
            raise ValueError("there is no label")
        side = "" if side_column is None else cells[side_column].strip()
        return label, read_side(side) if side else None

    matches = match_rows(table, path_column, index, label_and_side)
    warnings = []
    if matches.missing:
        count = counted(len(matches.missing), "photo")
        first = next(iter(matches.missing))
        warnings.append(f"{table.where} lists {count} not below {index.root}, the first is {first!r}")
    codes = pa.array(matches.codes, mask=matches.codes < 0)
    labels, sides = (pa.array(values, pa.string()).take(codes) for values in zip(*matches.said, strict=True))
    return TableLabels(labels, sides, warnings)


def _columns(table: Table) -> tuple[int, int, int | None]:
    path, label, side = (table.column(names) for names in (PATH_COLUMNS, LABEL_COLUMNS, SPLIT_COLUMNS))
    others = [number for number, name in enumerate(table.header) if name.strip() and number not in (path, side)]
    if label is None and len(others) == 1:
        label = others[0]
    if path is None or label is None:
        what = (
            "paths (such as path, file_name, image_id)" if path is None else "labels (such as label, class, category)"
        )
        raise DataError(
            f"{table.where} has no column of {what}; its first line is {','.join(table.header)!r}: "
            "it must name the columns, so rename or add one"
        )
    return path, label, side
