"""What is to be scored: files, folders of any layout, URIs and tables become one list, in the order they were given.

No photo is opened here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs

from ray_trash.dataset.columns import rows_in, table_of
from ray_trash.dataset.packed.listing import find_packed, table_names
from ray_trash.dataset.packed.tables import SUFFIXES, ParquetPhotos, binary_columns, open_table, opened, row_path
from ray_trash.dataset.places import judge_places
from ray_trash.dataset.walk import escape_name, walk
from ray_trash.errors import ConfigError, DataError, ReasonCode, StorageError
from ray_trash.storage import Storage
from ray_trash.terminal.bar import Bar
from ray_trash.terminal.say import Terminal
from ray_trash.terminal.text import counted

INPUT_SCHEMA = pa.schema(
    {
        "path": pa.string(),
        "source": pa.int32(),
        "place": pa.string(),
        "row": pa.int64(),
        "size_bytes": pa.int64(),
        "error_code": pa.string(),
        "error_message": pa.string(),
    }
)
"""One row an input. `place` is where a file is below its source, as `PhotoFolder` takes it; `row` is the number of
a row of a table. `error_code` is there where it is known that there is no photo to read."""

_HASHED_ROWS = 1 << 14
_ARCHIVE_SUFFIXES = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")
_REASON_CODES = frozenset(get_args(ReasonCode))


@dataclass(frozen=True)
class Source:
    """One path as given, `shown` without a URI's credentials and options; places are relative to the URI `root`."""

    shown: str
    root: str
    table: ParquetPhotos | None = None


@dataclass(frozen=True)
class ScoreInputs:
    """Everything to be scored.

    Attributes:
        rows: One row an input (`INPUT_SCHEMA`), in the order of the sources, and sorted within a folder.
        ignored: How many files are no inputs: what systems and this program leave behind, and files of other kinds.
    """

    sources: tuple[Source, ...]
    rows: pa.Table
    ignored: int

    def __len__(self) -> int:
        """Count them."""
        return len(self.rows)

    def fingerprint(self) -> str:
        """Return one hash of what is to be scored, in which order, and of all sizes that are known."""
        digest = hashlib.sha256(json.dumps([source.shown for source in self.sources]).encode())
        digest.update(json.dumps([source.table and source.table.column for source in self.sources]).encode())
        for start in range(0, len(self.rows), _HASHED_ROWS):
            digest.update(json.dumps(self.rows.slice(start, _HASHED_ROWS).to_pydict()).encode())
        return digest.hexdigest()


def list_inputs(
    given: Sequence[str],
    *,
    column: str | None = None,
    leave_out: tuple[Storage, Sequence[str]] | None = None,
    terminal: Terminal | None = None,
) -> ScoreInputs:
    """List what is to be scored.

    A row's path is relative to the folder that was given; that of a file given by itself is as it was given; that of
    a table's row comes from its column `path`, or is `FILE#row`. A folder may be a packed set, with the paths of the
    folder it was made from, or hold tables of photos and no photo. Where two of the things given would have a path
    in common, all paths from folders and from columns `path` are preceded by what was given and a slash.

    Args:
        given: Local paths and URIs.
        column: The column of photos in tables.
        leave_out: A folder and the names in it that are no inputs: what is written.
        terminal: Is told how far this has come.

    Raises:
        DataError: One does not exist, cannot be listed, is an archive or given twice, or there is nothing to score.
        ConfigError: The column of a table is not known, or one is named and there is no table.
    """
    sources: list[Source] = []
    tables: list[pa.Table] = []
    are_own: list[bool] = []
    ignored = 0
    for text in given:
        number, shown = len(sources), _shown(text)
        kind, storage, name = _look_at(text, shown)
        if kind == fs.FileType.Directory:
            with Bar(terminal or Terminal.silent(), total=None, noun="files", doing=f"listing {shown}:") as bar:
                places = _places_in(storage, shown, leave_out, on_entries=bar.advance)
            rows, n_ignored = _list_places(places, number)
            found = {} if len(rows) else _tables_among(places, storage, column, shown)
            ignored += n_ignored - len(found)
            for name, (table, paths) in found.items():
                sources.append(Source(shown, storage.uri, table))
                tables.append(_list_rows(table, paths, len(sources) - 1, storage, name))
                are_own.append(True)
            if found:
                continue
            source, is_own = Source(shown, storage.uri), True
        elif name.lower().endswith(_ARCHIVE_SUFFIXES):
            raise DataError(f"{shown}: is an archive; unpack it first, and name the folder")
        elif name.lower().endswith(SUFFIXES):
            table, paths = open_table(storage, name, column, shown=shown)
            rows, is_own = _list_rows(table, paths, number, storage, shown), paths is not None
            source = Source(shown, storage.uri, table)
        else:
            size_bytes = storage.filesystem.get_file_info(f"{storage.path}/{name}").size
            row = {"path": shown, "source": number, "place": escape_name(name), "size_bytes": size_bytes}
            rows, is_own = pa.Table.from_pylist([row], schema=INPUT_SCHEMA), False
            source = Source(shown, storage.uri)
        sources.append(source)
        tables.append(rows)
        are_own.append(is_own)
    if column is not None and not any(source.table for source in sources):
        raise ConfigError(f"--column {column}: has no effect, since no {' or '.join(SUFFIXES)} file is given")
    rows = pa.concat_tables(_told_apart(sources, tables, are_own)).combine_chunks()
    if not len(rows):
        beside = f"; {counted(ignored, 'file')} ignored, hidden or no photo by the name" if ignored else ""
        raise DataError(f"no photos in {', '.join(source.shown for source in sources)}{beside}")
    return ScoreInputs(tuple(sources), rows, ignored)


def _look_at(text: str, shown: str) -> tuple[fs.FileType, Storage, str]:
    """Return what it is, its folder (itself, where it is one), and its name."""
    try:
        storage = Storage.at(text)
        kind = storage.filesystem.get_file_info(storage.path).type
    except StorageError as error:
        raise DataError(str(error).replace(text, shown)) from error
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{shown}: cannot be looked at: {str(error).splitlines()[0]}") from error
    if kind == fs.FileType.NotFound:
        raise DataError(f"{shown}: does not exist")
    return (kind, storage, "") if kind == fs.FileType.Directory else (kind, *Storage.of_file(text))


def _places_in(
    storage: Storage,
    shown: str,
    leave_out: tuple[Storage, Sequence[str]] | None,
    *,
    on_entries: Callable[[int], None],
) -> pa.Table:
    try:
        packed = find_packed(storage)
        places = judge_places(walk(storage, on_entries=on_entries)) if packed is None else packed.placed()
    except (DataError, StorageError) as error:
        raise DataError(f"{shown}: {str(error).removeprefix('data.root: ')}") from error
    not_ours = _below(storage, leave_out)
    if not_ours and packed is None:
        ours = [not any(f"{path}/".startswith(f"{name}/") for name in not_ours) for (path,) in rows_in(places, "path")]
        places = places.filter(pa.array(ours, pa.bool_()))
    return places


def _tables_among(
    places: pa.Table, storage: Storage, column: str | None, shown: str
) -> dict[str, tuple[ParquetPhotos, pa.Array | None]]:
    found = {}
    for name in table_names(places):
        what = f"{shown.rstrip('/')}/{name}"
        with opened(storage, name, what) as file:
            has_photos = bool(binary_columns(file.schema_arrow))
        if has_photos:
            found[name] = open_table(storage, name, column, shown=what)
    return found


def _list_places(places: pa.Table, number: int) -> tuple[pa.Table, int]:
    is_file = pc.fill_null(pc.equal(places["place"], "file"), False)
    is_special = pc.and_(is_file, pc.equal(places["kind"], "special"))
    code = pc.if_else(is_special, "not_a_regular_file", places["reason"])
    is_rejected = pc.is_in(code, pa.array(sorted(_REASON_CODES)))
    is_ignored = pc.and_(pc.is_null(places["place"]), pc.invert(is_rejected))
    columns = {
        "path": places["path"],
        "source": pa.array(np.full(len(places), number, np.int32)),
        "place": places["path"],
        "size_bytes": pc.if_else(is_file, places["size_bytes"], None),
        "error_code": code,
        "error_message": pc.if_else(is_rejected, pc.fill_null(places["message"], ""), None),
    }
    rows = table_of(columns, INPUT_SCHEMA).filter(pc.or_(is_file, is_rejected))
    return rows.combine_chunks(), int(pc.sum(is_ignored).as_py() or 0)


def _below(storage: Storage, leave_out: tuple[Storage, Sequence[str]] | None) -> tuple[str, ...]:
    if leave_out is None or not leave_out[0].filesystem.equals(storage.filesystem):
        return ()
    root = storage.path.rstrip("/") + "/"
    places = [f"{leave_out[0].path}/{name}" for name in leave_out[1]]
    return tuple(escape_name(place.removeprefix(root)) for place in places if place.startswith(root))


def _list_rows(table: ParquetPhotos, paths: pa.Array | None, number: int, storage: Storage, shown: str) -> pa.Table:
    n_rows = sum(table.group_rows)
    if paths is None:
        paths = pa.array([row_path(shown, row, n_rows) for row in range(n_rows)], pa.string())
    size_bytes = storage.filesystem.get_file_info(f"{storage.path}/{table.name}").size
    columns = {
        "path": paths,
        "source": pa.array(np.full(n_rows, number, np.int32)),
        "row": pa.array(range(n_rows), pa.int64()),
        "size_bytes": pa.array(np.full(n_rows, size_bytes, np.int64)),
    }
    return table_of(columns, INPUT_SCHEMA)


def _told_apart(sources: Sequence[Source], tables: Sequence[pa.Table], are_own: Sequence[bool]) -> Sequence[pa.Table]:
    if _common_path(tables) is None:
        return tables
    longer = [
        table.set_column(0, "path", pc.binary_join_element_wise(source.shown.rstrip("/"), table["path"], "/"))
        if is_own
        else table
        for source, table, is_own in zip(sources, tables, are_own, strict=True)
    ]
    twice = _common_path(longer)
    if twice is not None:
        raise DataError(f"{twice}: given twice; name each file and folder once")
    return [table.cast(INPUT_SCHEMA) for table in longer]


def _common_path(tables: Sequence[pa.Table]) -> str | None:
    """Return a path that is in two of the tables; a table may have one several times."""
    if len(tables) < 2:
        return None
    counts = pc.value_counts(pa.chunked_array([pc.unique(table["path"]) for table in tables], pa.string()))
    common = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    return common[0].as_py() if len(common) else None


def _shown(given: str) -> str:
    if "://" not in given:
        return escape_name(given)
    scheme, _, rest = given.partition("://")
    authority, slash, path = rest.partition("?")[0].partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"
