"""What goes wrong in Ray Data's processes, carried to the driver in the blocks that travel there anyway.

An exception that leaves a function that Ray Data calls reaches the driver without its type.
"""

from __future__ import annotations

import pyarrow as pa

from ray_trash.errors import (
    CheckpointError,
    ClusterError,
    ConfigError,
    DataError,
    RayTrashError,
    StorageError,
)

_KINDS = {kind.__name__: kind for kind in (CheckpointError, ClusterError, ConfigError, DataError, StorageError)}
CARRIED = (pa.field("error_kind", pa.string()), pa.field("error", pa.string()))
"""Fields that end the schema of every block that is handed on."""


def nothing_carried(n: int) -> list[pa.Array]:
    """Return the last columns of a block of `n` rows in which nothing went wrong."""
    return [pa.nulls(n, field.type) for field in CARRIED]


def failed_block(schema: pa.Schema, positions: pa.ChunkedArray, error: RayTrashError) -> pa.Table:
    """Return a block that says what went wrong and nothing else.

    Args:
        schema: Of the block; has `position` and ends in `CARRIED`.
        positions: Of the rows it stands for, at least one.
        error: What is raised in the driver.
    """
    kind = next((name for name, kind in _KINDS.items() if isinstance(error, kind)), "")
    n = len(positions)
    said = {"position": positions, "error_kind": pa.array([kind] * n), "error": pa.array([str(error)] * n)}
    return pa.table([said.get(field.name, pa.nulls(n, field.type)) for field in schema], schema=schema)


def raise_carried_error(block: pa.Table) -> None:
    """Raise what a block carries, if it does."""
    if "error_kind" not in block.column_names or block["error_kind"].null_count == len(block):
        return
    names = [field.name for field in CARRIED]
    carried = block.filter(block["error_kind"].is_valid()).select(names).slice(0, 1).to_pylist()[0]
    raise _KINDS.get(carried["error_kind"], RayTrashError)(carried["error"])
