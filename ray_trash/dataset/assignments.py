"""The split that a file of the user says: a side for each path."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from ray_trash.dataset.catalog import SIDES, Side
from ray_trash.dataset.layout import side_named
from ray_trash.dataset.photo_index import PhotoIndex, match_rows
from ray_trash.dataset.table import PATH_COLUMNS, SPLIT_COLUMNS, read_table
from ray_trash.errors import DataError


def read_assignments(uri: str, index: PhotoIndex) -> dict[str, Side]:
    """Read the table of `data.split`: the side of each path that it lists, of photos that are not there as written.

    Raises:
        StorageError: The file cannot be read.
        DataError: It is no such table, a row has no side or contradicts another one, or none names a photo.
    """
    table = read_table(uri, "data.split")
    path_column, side_column = table.column(PATH_COLUMNS), table.column(SPLIT_COLUMNS)
    if path_column is None or side_column is None:
        raise DataError(
            f"{table.where} must begin with a line that names its columns, such as `path,split`; "
            f"it begins with {','.join(table.header)!r}"
        )

    matches = match_rows(table, path_column, index, lambda cells: read_side(cells[side_column]))
    found = np.flatnonzero(matches.codes >= 0)
    paths = index.paths.take(pa.array(found)).to_pylist()
    sides = (matches.said[code] for code in matches.codes[found].tolist())
    return {**matches.missing, **dict(zip(paths, sides, strict=True))}


def read_side(name: str) -> Side:
    """Return the side of the split that a table calls by a name; it is a `ValueError` if there is none."""
    side = side_named(name.strip())
    if side is None:
        raise ValueError(f"{name!r} is no side of the split; there are {', '.join(SIDES)}")
    return side
