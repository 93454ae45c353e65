"""Files of a checkpoint, each with its size and SHA-256 as the marker holds them."""

from __future__ import annotations

import hashlib
from typing import Any

from ray_trash.errors import CheckpointError
from ray_trash.storage import Storage


def write_entry(storage: Storage, name: str, data: bytes, digest: str | None = None) -> dict[str, Any]:
    """Write a file, whose digest may be known, and return what the marker says of it."""
    storage.write_bytes(name, data)
    return {"size_bytes": len(data), "sha256": digest or sha256(data)}


def read_checked(storage: Storage, name: str, size_bytes: int, digest: str) -> bytes:
    """Read a file, or raise a `CheckpointError` where it is not what the marker says."""
    require_size(storage, name, size_bytes)
    data = storage.read_bytes(name)
    if sha256(data) != digest:
        raise CheckpointError(
            f"{storage.uri}/{name}: changed since it was written (SHA-256 differs); copy the checkpoint again"
        )
    return data


def require_size(storage: Storage, name: str, expected: int) -> None:
    """Raise a `CheckpointError` where a file is not there, or of another size."""
    if not storage.exists(name):
        raise CheckpointError(f"{storage.uri}/{name}: missing; copy the checkpoint again")
    found = storage.filesystem.get_file_info(f"{storage.path}/{name}").size
    if found != expected:
        raise CheckpointError(
            f"{storage.uri}/{name}: {'truncated' if found < expected else 'changed'}, {found:,} bytes instead of "
            f"{expected:,}; copy the checkpoint again"
        )


def sha256(data: bytes) -> str:
    """Return a digest in hex."""
    return hashlib.sha256(data).hexdigest()
