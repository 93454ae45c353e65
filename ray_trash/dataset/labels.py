"""Labels from a table instead of from folders, as the data sets of Kaggle and Hugging Face have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ray_trash.dataset.assignments import read_side
from ray_trash.dataset.catalog import Side
from ray_trash.dataset.names import nfc
from ray_trash.dataset.photo_index import PhotoIndex, match_rows
from ray_trash.dataset.table import LABEL_COLUMNS, PATH_COLUMNS, SPLIT_COLUMNS, Table, read_table
from ray_trash.errors import ConfigError, DataError, StorageError
from ray_trash.terminal.text import counted


@dataclass(frozen=True)
class TableLabels:
    """What a table says of the photos that are there, by their paths; `sides` where it has a column of them."""

    labels: Mapping[str, str]
    sides: Mapping[str, Side]
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

    found, missing = match_rows(table, path_column, index, label_and_side)
    warnings = []
    if missing:
        count = counted(len(missing), "photo")
        warnings.append(f"{table.where} lists {count} not below {index.root}, the first is {next(iter(missing))!r}")
    return TableLabels(
        {path: label for path, (label, _) in found.items()},
        {path: side for path, (_, side) in found.items() if side is not None},
        warnings,
    )


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
