"""The catalog of a data root: one row a file, with its class, its hash and the verdict on it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ray_trash.dataset.columns import rows_in
from ray_trash.errors import DataError
from ray_trash.terminal.text import rejected_by_kind

Side = Literal["train", "val", "test"]
SIDES: tuple[Side, ...] = get_args(Side)
Verdict = Literal["accepted", "rejected", "ignored"]

CATALOG_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("size_bytes", pa.int64()),
        pa.field("sha256", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("verdict", pa.string(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("message", pa.string()),
    ]
)
"""A row a file, by its path relative to the data root; `row` is its number in the order of `path`, from 0.

`label` is its class, null for a file that is in none; `sha256` of its bytes, in hex, null where they were not read;
`width` and `height` of the upright photo as it is kept, in pixels, null unless it is accepted; `reason` a reason code
for a rejected file, a few words for an ignored one, of which `message` says more. Once photos are split, a column
`split` follows: the side of each, null where it is on none."""
_HASHED_ROWS = 8192


def accepted_photos(catalog: pa.Table) -> pa.Table:
    """Return the rows of photos that can be used."""
    return catalog.filter(pc.equal(catalog["verdict"], "accepted"))


def photo_keys(catalog: pa.Table) -> NDArray[np.uint64]:
    """Return what seeds each photo's augmentation, (rows,): the first 8 bytes of its hash, big-endian."""
    keys = (int(sha256[:16], 16) for (sha256,) in rows_in(catalog, "sha256"))
    return np.fromiter(keys, np.uint64, len(catalog))


def trained_on(keys: NDArray[np.uint64]) -> str:
    """Pack the keys of the photos that were trained on: Base64 of them sorted, 8 bytes each, big-endian."""
    return base64.b64encode(np.unique(keys).astype(">u8").tobytes()).decode()


def join_trained_on(packed: str, more: str) -> str:
    """Pack the photos of two that `trained_on` packed."""
    return trained_on(np.concatenate([_unpacked(packed), _unpacked(more)]))


def count_trained_on(packed: str, keys: NDArray[np.uint64]) -> int:
    """Count how many photos are among those that `trained_on` packed.

    Raises:
        ValueError: `packed` is something else.
    """
    return int(np.isin(keys, _unpacked(packed)).sum())


def _unpacked(packed: str) -> NDArray[np.uint64]:
    return np.frombuffer(base64.b64decode(packed, validate=True), ">u8").astype(np.uint64)


def fingerprint(catalog: pa.Table) -> str:
    """Return one hash of all that was accepted: paths, labels and contents, in hex.

    It is that of the JSON text of a sorted list with one list of the three for each photo.
    """
    names = ("path", "label", "sha256")
    accepted = accepted_photos(catalog).select(names).sort_by([(name, "ascending") for name in names])
    hashed, between = hashlib.sha256(b"["), b""
    for block in accepted.to_batches(max_chunksize=_HASHED_ROWS):
        rows = list(zip(*(column.to_pylist() for column in block.columns), strict=True))
        hashed.update(between + json.dumps(rows)[1:-1].encode())
        between = b", "
    hashed.update(b"]")
    return hashed.hexdigest()


def on_side(catalog: pa.Table, side: Side) -> pa.Table:
    """Return the rows on one side of the split."""
    return catalog.filter(pc.equal(catalog["split"], side))


def require_usable_photos(catalog: pa.Table) -> None:
    """Refuse a data set of which no photo can be used, by a `DataError` that says what they are instead."""
    if len(accepted_photos(catalog)):
        return
    rejected = catalog.filter(pc.equal(catalog["verdict"], "rejected")).to_pylist()
    first = rejected[0]
    why = first["message"] or first["reason"]
    raise DataError(f"data.root: no photo can be used; {rejected_by_kind(rejected)}; such as {first['path']!r}: {why}")


def require_usable_classes(catalog: pa.Table, classes: Sequence[str]) -> None:
    """Refuse, by a `DataError`, a data set with a class without accepted photos."""
    accepted = set(pc.unique(accepted_photos(catalog)["label"]).to_pylist())
    empty = [name for name in classes if name not in accepted]
    if empty:
        counts = Counter(catalog["label"].to_pylist())
        named = ", ".join(f"{name!r} ({counts[name]} rejected)" for name in empty)
        advice = "add photos, remove the folder, or leave the class out of data.classes"
        raise DataError(f"data.root: no usable photo of {named}; {advice}")
