"""What a packed set is made of, and how each piece is named.

```
photos-00000.parquet  photos with their labels, in the order of their paths; any program reads them as Parquet
index.arrow           where in which shard each photo's bytes are, in the same order
left_out.parquet      what was below the folder and is not packed, with its reason
packed.json           what the set holds; written last, so that a set without it is none
```

The bytes of a row group lie one after the other, uncompressed, so that one photo is one read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
from pyarrow import fs

from ray_trash.errors import DataError, StorageError
from ray_trash.storage import Storage

MANIFEST, INDEX, LEFT_OUT = "packed.json", "index.arrow", "left_out.parquet"
FORMAT = 1
"""The version of all this."""

SHARD_SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("bytes", pa.binary(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("split", pa.string()),
    ]
)
"""A shard. `path` is relative to the folder that was packed; `split` is null where no side was given."""
PLAN_KEY = b"ray_trash.plan"
"""Metadata of a shard: which plan it is a part of."""

INDEX_SCHEMA = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),
        pa.field("label", pa.int32(), nullable=False),
        pa.field("split", pa.int8()),
        pa.field("shard", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("size_bytes", pa.int32(), nullable=False),
    ]
)
"""A row a photo, sorted by path: numbers of its class, side and shard, and where in the file of the shard it begins."""
INDEX_ROWS = 1024
"""Rows of a record batch of the index: what is read of a remote one to find a photo."""

LEFT_OUT_SCHEMA = pa.schema(
    {"path": pa.string(), "verdict": pa.string(), "reason": pa.string(), "message": pa.string()}
)
"""`verdict` is `rejected` or `ignored`; the others as in a catalog."""


@dataclass(frozen=True)
class Manifest:
    """`packed.json`.

    Attributes:
        id: One hash of all paths, labels, contents and sides.
        classes: In label order.
        split: Where the sides come from, a kind of `SplitRule`; None where none were given.
        sides: The folders above the class folders that say them, as in a `Listing`.
        shards: File, photos and bytes of each.
        batches: The first path of each record batch of the index.
        counts: seen, accepted (packed), rejected, ignored.
        warnings: What the listing of the folder had to say.
    """

    id: str
    classes: tuple[str, ...]
    split: str | None
    sides: tuple[str, ...]
    shards: tuple[tuple[str, int, int], ...]
    batches: tuple[str, ...]
    counts: Mapping[str, int]
    warnings: tuple[str, ...]
    format: int = FORMAT

    @property
    def n(self) -> int:
        """Count the photos."""
        return sum(n for _, n, _ in self.shards)

    def to_json(self) -> bytes:
        """Return the content of the file."""
        return (json.dumps(asdict(self), indent=1) + "\n").encode()

    @classmethod
    def from_json(cls, content: bytes) -> Manifest:
        """Rebuild what `to_json` gave; it is a `ValueError` if it is something else."""
        values = json.loads(content)
        if not isinstance(values, dict) or set(values) != set(cls.__dataclass_fields__):
            raise ValueError("it has other fields")
        lists: dict[str, Any] = {name: tuple(values[name]) for name in ("classes", "sides", "batches", "warnings")}
        shards = tuple((str(name), int(n), int(size_bytes)) for name, n, size_bytes in values["shards"])
        return cls(**{**values, **lists, "shards": shards})


def shard_name(number: int) -> str:
    """Name a shard."""
    return f"photos-{number:05d}.parquet"


def read_manifest(storage: Storage) -> Manifest | None:
    """Read what a folder says of the packed set in it; None where it is none.

    Raises:
        DataError: The file is damaged, or of a later version.
        StorageError: The place cannot be looked at.
    """
    if not storage.exists(MANIFEST):
        return None
    content = storage.read_bytes(MANIFEST)
    try:
        version = json.loads(content)["format"]
        if version == FORMAT:
            return Manifest.from_json(content)
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{storage.child(MANIFEST).uri}: is damaged ({error}); pack the photos again") from error
    raise DataError(
        f"{storage.child(MANIFEST).uri}: is of version {version}, and this program reads {FORMAT}; pack the photos "
        "again, or update the program"
    )


def check_shards(storage: Storage, manifest: Manifest) -> None:
    """Refuse, by a `DataError`, a packed set of which a shard is missing or has another size."""
    try:
        infos = storage.filesystem.get_file_info(fs.FileSelector(storage.path))
    except (OSError, pa.ArrowException) as error:
        raise StorageError(f"{storage.uri}: cannot list: {str(error).splitlines()[0]}") from error
    sizes = {info.base_name: info.size for info in infos}
    for name, _, size_bytes in manifest.shards:
        if sizes.get(name) != size_bytes:
            what = "is missing" if name not in sizes else f"has {sizes[name]} bytes instead of {size_bytes}"
            raise DataError(f"{storage.uri}: the shard {name} {what}; copy it again, or pack the photos again")
