"""Converted networks that processes of one machine keep for one another: each saves over a processor-second."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import Any

from ray_trash.errors import CheckpointError, StorageError
from ray_trash.model.checkpoint import Checkpoint
from ray_trash.model.openvino_network import from_ir, import_openvino, to_ir
from ray_trash.storage import Storage

MOST = 3
"""Networks in a folder: of the model that answers, the one before it and one on trial. A ResNet50's has 94 MB."""
_DIGEST_BYTES, _LENGTH_BYTES = hashlib.sha256().digest_size, 8


class KeptNetworks:
    """Those in a folder, each a file: a SHA-256 of what follows, how long the XML of OpenVINO's IR is, both its parts.

    Who keeps one has found that its network answers as the checkpoint says.
    """

    def __init__(self, folder: Path) -> None:
        """Name the folder, which need not exist."""
        self._storage = Storage.at(folder)

    def find(self, checkpoint: Checkpoint) -> Any | None:
        """Return the converted network of a checkpoint, or None where there is none, or not as it was kept."""
        with contextlib.suppress(StorageError, CheckpointError):
            kept = memoryview(self._storage.read_bytes(_name(checkpoint)))
            digest, said = kept[:_DIGEST_BYTES], kept[_DIGEST_BYTES:]
            if hashlib.sha256(said).digest() == digest:
                end = _LENGTH_BYTES + int.from_bytes(said[:_LENGTH_BYTES])
                return from_ir((bytes(said[_LENGTH_BYTES:end]), bytes(said[end:])), checkpoint.uri)
        return None

    def keep(self, checkpoint: Checkpoint, converted: Any) -> Any:
        """Keep a converted network, where there is room, with the newest others; return it as `find` will.

        As it was, it might answer otherwise in its last bits: measured, by 4e-8.
        """
        folder = self._storage.local_path()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # Where what a process leaves that is killed meanwhile goes with the rest.
            ir = to_ir(converted, below=folder)
        except (OSError, RuntimeError):
            # The disk is full, for which OpenVINO has the second one.
            return converted
        said = b"".join((len(ir[0]).to_bytes(_LENGTH_BYTES), *ir))
        with contextlib.suppress(StorageError, OSError):
            self._storage.write_bytes(_name(checkpoint), hashlib.sha256(said).digest() + said)
            for old in sorted(folder.iterdir(), key=lambda file: file.stat().st_mtime, reverse=True)[MOST:]:
                self._storage.remove(old.name)
        return from_ir(ir, checkpoint.uri)


def _name(checkpoint: Checkpoint) -> str:
    # The marker has a hash of every file of the checkpoint.
    return hashlib.sha256(checkpoint.marker + import_openvino().__version__.encode()).hexdigest()
