"""The checkpoint directory, the one seam between training and using a network.

```
weights.safetensors         the network, torchvision's key names
checkpoint.json             `CheckpointDocument`
trainer/state.safetensors   what resume needs, where it was given
trainer/state.json
COMPLETE                    sizes and SHA-256 of the files above, written last
```

Tensors and a document in, a directory that is whole or refused out. Reads no pickle. Knows nothing
of what the trainer keeps.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ray_trash.errors import CheckpointError
from ray_trash.model.document import (
    FORMAT_VERSION,
    CheckpointDocument,
    document_from_json,
    document_to_json,
    require_format_version,
)
from ray_trash.model.tensors import from_safetensors, plain_state, to_safetensors
from ray_trash.storage import Storage, sync_directory

MARKER = "COMPLETE"
WEIGHTS_FILE = "weights.safetensors"
DOCUMENT_FILE = "checkpoint.json"
TRAINER_FOLDER = "trainer"
TRAINER_TENSORS_FILE = f"{TRAINER_FOLDER}/state.safetensors"
TRAINER_VALUES_FILE = f"{TRAINER_FOLDER}/state.json"
_SERVED_FILES = (WEIGHTS_FILE, DOCUMENT_FILE)
_TRAINER_FILES = (TRAINER_TENSORS_FILE, TRAINER_VALUES_FILE)
_ID_DIGITS = 12


def write_checkpoint(
    directory: Path,
    network_state: Mapping[str, Tensor],
    document: CheckpointDocument,
    *,
    trainer_tensors: Mapping[str, Tensor] | None = None,
    trainer_values: Mapping[str, Any] | None = None,
) -> CheckpointDocument:
    """Write a checkpoint that is complete only once this returns.

    A checkpoint that is already there loses its marker first, so at no moment does a reader take a
    mixture of the two.

    Args:
        directory: A local folder, made where it is not there.
        network_state: The network's `state_dict`.
        document: Its `id` is set here.
        trainer_tensors: What resume needs, by flat names, any dtype; left out with
            `trainer_values`, the checkpoint can be used but not resumed from.
        trainer_values: JSON values; floats come back exactly, infinity and NaN too, tuples as
            lists.

    Returns:
        The document as written.

    Raises:
        StorageError: The disk is full, read-only or out of reach.
        ValueError: The document is not what `open_checkpoint` would take.
    """
    if (trainer_tensors is None) != (trainer_values is None):
        raise ValueError("trainer_tensors and trainer_values belong together: give both or neither")
    storage = Storage.at(directory)
    weights = to_safetensors(plain_state(network_state))
    weights_sha256 = _sha256(weights)
    written = dataclasses.replace(document, id=_checkpoint_id(weights_sha256))
    text = _render(written)
    storage.remove(MARKER)
    if directory.exists():
        sync_directory(directory)
    storage.remove(TRAINER_FOLDER)
    entries = {
        WEIGHTS_FILE: _write_entry(storage, WEIGHTS_FILE, weights, weights_sha256),
        DOCUMENT_FILE: _write_entry(storage, DOCUMENT_FILE, text),
    }
    if trainer_tensors is not None and trainer_values is not None:
        tensors, values = to_safetensors(trainer_tensors), json.dumps(dict(trainer_values)).encode()
        entries[TRAINER_TENSORS_FILE] = _write_entry(storage, TRAINER_TENSORS_FILE, tensors)
        entries[TRAINER_VALUES_FILE] = _write_entry(storage, TRAINER_VALUES_FILE, values)
    marker = {"format_version": FORMAT_VERSION, "files": entries}
    storage.write_bytes(MARKER, (json.dumps(marker, indent=2) + "\n").encode())
    return written


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was found complete, made by `open_checkpoint`.

    Attributes:
        uri: Where it is.
        name: Of its folder.
        document: What it says about itself.
        marker: Its marker, which is another one for every checkpoint.
    """

    uri: str
    name: str
    document: CheckpointDocument
    marker: bytes = dataclasses.field(repr=False)
    _files: Mapping[str, bytes] = dataclasses.field(repr=False)

    def weights(self) -> dict[str, Tensor]:
        """Return the network's tensors, float32 on the CPU.

        Raises:
            CheckpointError: The file is no safetensors.
        """
        return from_safetensors(self._files[WEIGHTS_FILE], f"{self.uri}/{WEIGHTS_FILE}")

    def trainer(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return what resume needs: tensors and values as they were given to `write_checkpoint`.

        Only for a checkpoint that was opened with `with_trainer`.

        Raises:
            CheckpointError: The files are not what this code writes.
        """
        assert TRAINER_VALUES_FILE in self._files, f"{self.uri} was opened without its trainer part"
        tensors = from_safetensors(self._files[TRAINER_TENSORS_FILE], f"{self.uri}/{TRAINER_TENSORS_FILE}")
        return tensors, _json_object(self._files[TRAINER_VALUES_FILE], f"{self.uri}/{TRAINER_VALUES_FILE}")


def open_checkpoint(place: str | Path | Storage, *, with_trainer: bool = False) -> Checkpoint:
    """Open a checkpoint and check it, once, against its marker.

    The bytes that were checked are kept, so what is used is what was checked.

    Args:
        place: The checkpoint's folder.
        with_trainer: Whether the part that resume needs is read too. Without it only the sizes of
            those files are compared.

    Raises:
        CheckpointError: There is no checkpoint, it is incomplete, or a file is missing, truncated,
            changed or of another version; the file is named.
        StorageError: The storage cannot be asked.
    """
    storage = place if isinstance(place, Storage) else Storage.at(place)
    marker, entries = _read_marker(storage)
    wanted = _SERVED_FILES + (_TRAINER_FILES if with_trainer else ())
    absent = [name for name in wanted if name not in entries]
    if absent:
        raise CheckpointError(
            f"{storage.uri}: the checkpoint has no {' and no '.join(absent)}"
            + ("; it can be used, but not resumed from" if with_trainer else "")
        )
    files: dict[str, bytes] = {}
    for name, (size_bytes, sha256) in entries.items():
        if name in wanted:
            files[name] = _read_checked(storage, name, size_bytes, sha256)
        else:
            _require_size(storage, name, _size_of(storage, name), size_bytes)
    where = f"{storage.uri}/{DOCUMENT_FILE}"
    document = document_from_json(_text(files[DOCUMENT_FILE], where), where)
    expected_id = _checkpoint_id(entries[WEIGHTS_FILE][1])
    if document.id != expected_id:
        raise CheckpointError(
            f"{where}: it belongs to the weights {document.id}, beside it are {expected_id}; "
            "copy the checkpoint again as a whole"
        )
    return Checkpoint(storage.uri, posixpath.basename(storage.path.rstrip("/")), document, marker, files)


def _write_entry(storage: Storage, name: str, data: bytes, sha256: str = "") -> dict[str, Any]:
    storage.write_bytes(name, data)
    return {"size_bytes": len(data), "sha256": sha256 or _sha256(data)}


def _read_marker(storage: Storage) -> tuple[bytes, dict[str, tuple[int, str]]]:
    if not storage.exists(MARKER):
        raise CheckpointError(_why_no_marker(storage))
    where = f"{storage.uri}/{MARKER}"
    marker = storage.read_bytes(MARKER)
    tree = _json_object(marker, where)
    require_format_version(tree, where)
    try:
        entries = {str(name): (int(entry["size_bytes"]), str(entry["sha256"])) for name, entry in tree["files"].items()}
        return marker, entries
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{where}: not a marker this ray-trash writes") from error


def _why_no_marker(storage: Storage) -> str:
    if not storage.exists():
        return f"{storage.uri}: no checkpoint there"
    if storage.exists(f"checkpoint/{MARKER}"):
        inner = storage.child("checkpoint").uri
        return f"{storage.uri}: a run, not a checkpoint; its checkpoint is {inner}"
    if any(storage.exists(name) for name in (*_SERVED_FILES, TRAINER_FOLDER)):
        return (
            f"{storage.uri}: the checkpoint is incomplete, its {MARKER} marker is missing: writing "
            "or copying "
            "it was cut short; use another checkpoint or copy it again"
        )
    needed = ", ".join(_SERVED_FILES)
    return f"{storage.uri}: not a checkpoint, which is a folder with {needed} and {MARKER}"


def _read_checked(storage: Storage, name: str, size_bytes: int, sha256: str) -> bytes:
    if not storage.exists(name):
        raise CheckpointError(f"{storage.uri}/{name}: missing; copy the checkpoint again")
    data = storage.read_bytes(name)
    _require_size(storage, name, len(data), size_bytes)
    if _sha256(data) != sha256:
        raise CheckpointError(
            f"{storage.uri}/{name}: changed since it was written (SHA-256 differs); copy the checkpoint again"
        )
    return data


def _require_size(storage: Storage, name: str, found: int | None, expected: int) -> None:
    if found is None:
        raise CheckpointError(f"{storage.uri}/{name}: missing; copy the checkpoint again")
    if found != expected:
        raise CheckpointError(
            f"{storage.uri}/{name}: {'truncated' if found < expected else 'changed'}, {found:,} "
            "bytes "
            f"instead of {expected:,}; copy the checkpoint again"
        )


def _size_of(storage: Storage, name: str) -> int | None:
    if not storage.exists(name):
        return None
    return int(storage.filesystem.get_file_info(f"{storage.path}/{name}").size)


def _render(document: CheckpointDocument) -> bytes:
    text = document_to_json(document)
    try:
        document_from_json(text, DOCUMENT_FILE)
    except CheckpointError as error:
        raise ValueError(f"a document that could not be read back: {error}") from error
    return text.encode()


def _json_object(data: bytes, where: str) -> dict[str, Any]:
    try:
        tree = json.loads(_text(data, where))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{where}: not valid JSON: {error}") from error
    if not isinstance(tree, dict):
        raise CheckpointError(f"{where}: expected a JSON object")
    return tree


def _text(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{where}: not UTF-8 text") from error


def _checkpoint_id(sha256: str) -> str:
    return sha256[:_ID_DIGITS]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
