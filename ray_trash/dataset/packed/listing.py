"""What photos are in a packed set, or in Parquet files of others, with their labels and sides; none is read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc
import pyarrow.parquet as pq

from ray_trash.dataset.assignments import read_side
from ray_trash.dataset.catalog import SIDES
from ray_trash.dataset.columns import table_of
from ray_trash.dataset.layout import side_named
from ray_trash.dataset.packed.form import (
    INDEX,
    LEFT_OUT,
    LEFT_OUT_SCHEMA,
    MANIFEST,
    PLAN_KEY,
    Manifest,
    check_shards,
    read_manifest,
)
from ray_trash.dataset.packed.tables import (
    SMALL_GROUP_BYTES,
    SUFFIXES,
    binary_columns,
    features_of,
    group_photo_bytes,
    is_table,
    opened,
    photo_column,
    row_path,
)
from ray_trash.dataset.places import OTHER_KIND, PLACE_SCHEMA
from ray_trash.dataset.table import LABEL_COLUMNS, SPLIT_COLUMNS, column_named
from ray_trash.errors import DataError
from ray_trash.storage import Storage
from ray_trash.terminal.text import counted

PHOTOS_SCHEMA = pa.schema({"path": pa.string(), "label": pa.string(), "split": pa.string(), "size_bytes": pa.int64()})
"""A row a photo, sorted by path; `label` and `split` are null where none is given. In tables of others `size_bytes` is
a photo's share of its row group."""


@dataclass(frozen=True)
class PackedListing:
    """What a packed set or Parquet files hold.

    Attributes:
        photos: Of `PHOTOS_SCHEMA`.
        others: What was not packed, or lies beside the tables (`PLACE_SCHEMA`).
        classes: In label order; those of tables sorted.
        sides: Folders above the class folders, as in a `Listing`; where there are some, paths say the sides.
        warnings: Sentences for the user.
    """

    photos: pa.Table
    others: pa.Table
    classes: tuple[str, ...]
    sides: tuple[str, ...]
    warnings: tuple[str, ...]

    def placed(self) -> pa.Table:
        """Return all this as `judge_places` does of a folder."""
        n = len(self.photos)
        known = {"path": self.photos["path"], "size_bytes": self.photos["size_bytes"]}
        known |= {name: pa.repeat(pa.scalar("file"), n) for name in ("kind", "place")}
        photos = table_of(known, PLACE_SCHEMA)
        return pa.concat_tables([photos, self.others.cast(PLACE_SCHEMA)]).sort_by("path").combine_chunks()


def find_packed(storage: Storage) -> PackedListing | None:
    """List the packed set in a folder, or the Parquet file of photos that a place is; None where it is neither.

    Raises:
        DataError: It is one, and damaged or not complete, or does not say what is what.
        StorageError: The place cannot be looked at.
    """
    if is_table(storage):
        folder, name = Storage.of_file(storage.uri)
        found = _list_tables(folder, [name], storage.uri, PLACE_SCHEMA.empty_table())
        if found is None:
            raise DataError(f"data.root: {storage.uri}: no binary column, which would hold encoded photos")
        return found
    manifest = read_manifest(storage)
    return None if manifest is None else _list_packed(storage, manifest)


def tables_in(storage: Storage, placed: pa.Table) -> PackedListing | None:
    """List the Parquet files of photos among what `judge_places` found; None where there is none, or also photos.

    A photo is named after its file and row. Which side it is on, a column says, or else, where there are several
    sides, the names of the files or folders as Hugging Face gives them.

    Raises:
        DataError: A file cannot be read, does not say which column are the photos or labels, or has a label that is
            none; or it is a shard of a packed set that is not complete.
    """
    if pc.any(pc.equal(placed["place"], "file")).as_py():
        return None
    names = table_names(placed)
    return _list_tables(storage, names, storage.uri, placed) if names else None


def table_names(placed: pa.Table) -> list[str]:
    """Return the paths of the Parquet files among what `judge_places` found, sorted."""
    others = placed.filter(pc.fill_null(pc.equal(placed["reason"], OTHER_KIND), False))
    return [path for path in others["path"].to_pylist() if path.lower().endswith(SUFFIXES)]


def _list_packed(storage: Storage, manifest: Manifest) -> PackedListing:
    check_shards(storage, manifest)
    try:
        index = pa.ipc.open_file(pa.BufferReader(storage.read_bytes(INDEX))).read_all()
        left_out = pq.read_table(pa.BufferReader(storage.read_bytes(LEFT_OUT))).cast(LEFT_OUT_SCHEMA)
        columns = {
            "path": index["path"],
            "label": pa.array(manifest.classes, pa.string()).take(index["label"].combine_chunks()),
            # Folders say it once more, by rules that need no table of paths.
            "split": pa.nulls(len(index), pa.string())
            if manifest.sides
            else pa.array(SIDES, pa.string()).take(index["split"].combine_chunks()),
            "size_bytes": index["size_bytes"].cast(pa.int64()),
        }
    except (OSError, KeyError, pa.ArrowException) as error:
        raise DataError(f"{storage.uri}: the index of the packed set is damaged; pack the photos again") from error
    if len(index) != manifest.n:
        raise DataError(
            f"{storage.uri}: its index names {counted(len(index), 'photo')}, and {MANIFEST} {manifest.n}; pack the "
            "photos again"
        )
    known = {name: left_out[name] for name in ("path", "reason", "message")}
    known |= {"kind": pa.repeat(pa.scalar("file"), len(left_out)), "size_bytes": pa.repeat(0, len(left_out))}
    others = table_of(known, PLACE_SCHEMA)
    photos = pa.table(columns, schema=PHOTOS_SCHEMA)
    return PackedListing(photos, others, manifest.classes, manifest.sides, manifest.warnings)


def _list_tables(storage: Storage, names: Sequence[str], root: str, placed: pa.Table) -> PackedListing | None:
    found = {name: table for name in names if (table := _list_table(storage, name, root)) is not None}
    if not found:
        return None
    of_files = {name: _side_of_file(name) for name in found}
    if len(set(of_files.values()) - {None}) > 1:
        for name, table in found.items():
            if table.photos["split"].null_count == len(table.photos):
                sides = pa.repeat(pa.scalar(of_files[name], pa.string()), len(table.photos))
                found[name] = replace(table, photos=_with(table.photos, "split", sides))
    photos = pa.concat_tables([table.photos for table in found.values()]).sort_by("path").combine_chunks()
    classes = tuple(sorted(pc.unique(photos["label"]).drop_null().to_pylist()))
    if not classes:
        raise DataError(f"data.root: {root}: no row has a label")
    largest_bytes = max(table.largest_group_bytes for table in found.values())
    warnings = []
    if largest_bytes > SMALL_GROUP_BYTES:
        warnings.append(
            f"{root}: row groups of up to {largest_bytes >> 20} MiB: a photo out of order costs reading the way to it; "
            "`ray-trash pack` makes a set of which single photos are read"
        )
    others = placed.filter(pc.invert(pc.is_in(placed["path"], pa.array(sorted(found), pa.string()))))
    return PackedListing(photos, others, classes, (), tuple(warnings))


@dataclass(frozen=True)
class _Table:
    photos: pa.Table
    largest_group_bytes: int


def _list_table(storage: Storage, name: str, root: str) -> _Table | None:
    is_root = root != storage.uri
    shown = f"data.root: {root}" if is_root else f"data.root: {storage.child(name).uri}"
    with opened(storage, name, shown) as file:
        schema, metadata = file.schema_arrow, file.metadata
        if not binary_columns(schema):
            return None
        if PLAN_KEY in (schema.metadata or {}) and not is_root:
            raise DataError(
                f"data.root: {root}: holds a part of a packed set, and no {MANIFEST}: packing was not finished, or it "
                "was not copied; run `ray-trash pack` again, or copy it too"
            )
        column = photo_column(schema)
        if column is None:
            raise DataError(
                f"{shown}: several columns may be the photos: {', '.join(binary_columns(schema))}; name it `image`"
            )
        label, side = _label_column(schema, shown), column_named(schema.names, SPLIT_COLUMNS)
        wanted = [label, *([schema.names[side]] if side is not None else [])]
        read = file.read(columns=wanted)
        labels = _labels(read[label].combine_chunks(), schema, label, shown)
        sides = _sides(read.column(1).combine_chunks(), shown) if len(wanted) > 1 else None
        group_bytes = group_photo_bytes(metadata, column)
        group_rows = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    n_rows = len(labels)
    shares = [size // max(1, rows) for size, rows in zip(group_bytes, group_rows, strict=True)]
    columns = {
        "path": pa.array([row_path(name, row, n_rows) for row in range(n_rows)], pa.string()),
        "label": labels,
        "split": pa.nulls(n_rows, pa.string()) if sides is None else sides,
        "size_bytes": pa.array(np.repeat(np.array(shares, np.int64), group_rows)),
    }
    return _Table(pa.table(columns, schema=PHOTOS_SCHEMA), max(group_bytes, default=0))


def _label_column(schema: pa.Schema, shown: str) -> str:
    number = column_named(schema.names, LABEL_COLUMNS)
    if number is not None:
        return str(schema.names[number])
    features = features_of(schema)
    classes = [
        name
        for name in schema.names
        if isinstance(features.get(name), dict) and features[name].get("_type") == "ClassLabel"
    ]
    if len(classes) != 1:
        raise DataError(
            f"{shown}: no column of labels (such as label, class, category); there are {', '.join(schema.names)}: "
            "rename or add one"
        )
    return str(classes[0])


def _labels(column: pa.Array, schema: pa.Schema, name: str, shown: str) -> pa.Array:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    feature = features_of(schema).get(name)
    names = feature.get("names") if isinstance(feature, dict) else None
    if pa.types.is_integer(column.type) and isinstance(names, list) and names:
        numbers = column.cast(pa.int64())
        numbers = pc.if_else(pc.less(numbers, 0), None, numbers)  # how Hugging Face says that there is no label
        largest = pc.max(numbers).as_py()
        if largest is not None and largest >= len(names):
            raise DataError(f"{shown}: the label {largest} in {name!r} has no name; there are {len(names)}")
        column = pa.array([str(text) for text in names], pa.string()).take(numbers)
    elif not (_is_text(column.type) or pa.types.is_integer(column.type) or pa.types.is_boolean(column.type)):
        raise DataError(f"{shown}: the labels in {name!r} are {column.type}, not words or whole numbers")
    words = pc.utf8_normalize(pc.utf8_trim_whitespace(column.cast(pa.string())), form="NFC")
    return pc.if_else(pc.equal(words, ""), None, words)


def _sides(column: pa.Array, shown: str) -> pa.Array | None:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if not _is_text(column.type):
        return None
    said = pc.unique(column).drop_null()
    try:
        sides = pa.array([read_side(text) if text.strip() else None for text in said.to_pylist()], pa.string())
    except ValueError as error:
        raise DataError(f"{shown}: {error}") from error
    return sides.take(pc.index_in(column, value_set=said))


def _side_of_file(name: str) -> str | None:
    *folders, last = name.split("/")
    parts = [re.split(r"[-_.]", last)[0], *reversed(folders)]
    return next((side for side in map(side_named, parts) if side is not None), None)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _with(table: pa.Table, name: str, column: pa.Array) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), table.schema.field(name), column)
