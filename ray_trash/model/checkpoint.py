"""The checkpoint directory, the one seam between training and using a network.

```
weights.safetensors   the network, torchvision's key names
checkpoint.json       `CheckpointDocument`
int8.xml, int8.bin    where an int8 network answers: it, as OpenVINO's IR
quantized.json        how its answers compare with those of the network it was made of
trainer/state.pt      what resume needs, where it was given
model_card.md         all of it for people, see `model.card`; no part of what answers
COMPLETE              sizes and SHA-256 of the files above but the card, written last
```

Only who resumes reads `trainer/state.pt`, a file of `torch.save`, and only as numbers: nothing in it can run.
In the middle of an epoch there is nothing to be used yet: such a checkpoint has that file and the marker, no more.

A checkpoint is opened and checked without torch, which takes seconds to load: only its tensors need it.
"""

from __future__ import annotations

import dataclasses
import json
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray_trash.errors import CheckpointError, StorageError
from ray_trash.model.card import CARD_FILE, card_is_of, model_card
from ray_trash.model.checked_files import read_checked, require_size, sha256, write_entry
from ray_trash.model.document import (
    FORMAT_VERSION,
    ID_DIGITS,
    INT8_FORMAT_VERSION,
    CheckpointDocument,
    document_from_json,
    document_to_json,
    format_version,
    json_object,
    model_id,
    require_format_version,
)
from ray_trash.storage import Storage, sync_directory

if TYPE_CHECKING:
    from torch import Tensor

MARKER = "COMPLETE"
WEIGHTS_FILE = "weights.safetensors"
DOCUMENT_FILE = "checkpoint.json"
TRAINER_FOLDER = "trainer"
TRAINER_FILE = f"{TRAINER_FOLDER}/state.pt"
INT8_FILES = ("int8.xml", "int8.bin")
QUANTIZED_FILE = "quantized.json"
_SERVED_FILES = (WEIGHTS_FILE, DOCUMENT_FILE)
_QUANTIZED_FILES = (*INT8_FILES, QUANTIZED_FILE)
_MAX_CARD_BYTES = 1 << 20


@dataclass(frozen=True)
class Quantized:
    """An int8 network, as the two files of OpenVINO's IR, and what `quantize` found when it compared it."""

    ir: tuple[bytes, bytes] = dataclasses.field(repr=False)
    report: Mapping[str, Any]


def write_checkpoint(
    directory: Path,
    network_state: Mapping[str, Tensor],
    document: CheckpointDocument,
    *,
    trainer: Mapping[str, Any] | None = None,
    quantized: Quantized | None = None,
) -> CheckpointDocument:
    """Write a checkpoint that is complete only once this returns.

    A checkpoint that is already there loses its marker first, so at no moment does a reader take a mixture of the two.

    Args:
        directory: A local folder, made where it is not there.
        network_state: The network's `state_dict`.
        document: Its `id` is set here, in what is returned.
        trainer: What resume needs: tensors, numbers, text and containers of them. Default: nothing, the
            checkpoint can be used but not resumed from.
        quantized: The network that answers, where the document has a `float_network`.

    Raises:
        StorageError: The disk is full, read-only or out of reach.
        ValueError: The document is not what `open_checkpoint` would take.
    """
    from ray_trash.model.tensors import plain_state, to_safetensors, to_torch_file

    if document.is_int8 != (quantized is not None):
        raise ValueError("a document has a float_network where there is an int8 one, and nowhere else")
    storage = Storage.at(directory)
    files = {WEIGHTS_FILE: to_safetensors(plain_state(network_state))}
    if quantized is not None:
        files |= zip(INT8_FILES, quantized.ir, strict=True)
    digests = {name: sha256(data) for name, data in files.items()}
    named = model_id(tuple(digests.values()), document_to_json(document).encode())
    written = dataclasses.replace(document, id=named)
    text = _render(written)
    storage.remove(MARKER)
    if directory.exists():
        sync_directory(directory)
    for left in (TRAINER_FOLDER, *_QUANTIZED_FILES):
        storage.remove(left)
    entries = {name: write_entry(storage, name, data, digests[name]) for name, data in files.items()}
    entries[DOCUMENT_FILE] = write_entry(storage, DOCUMENT_FILE, text)
    if quantized is not None:
        report = json.dumps(quantized.report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        entries[QUANTIZED_FILE] = write_entry(storage, QUANTIZED_FILE, report.encode())
    card = model_card(written, quantized=quantized.report if quantized else None)
    storage.write_bytes(CARD_FILE, card.encode())
    if trainer is not None:
        entries[TRAINER_FILE] = write_entry(storage, TRAINER_FILE, to_torch_file(dict(trainer)))
    _write_marker(storage, entries, version=format_version(written))
    return written


def write_trainer_part(directory: Path, trainer: Mapping[str, Any]) -> None:
    """Write a checkpoint that can be resumed from and not be used, complete only once this returns.

    Args:
        directory: A local folder that is not there yet.
        trainer: As for `write_checkpoint`.

    Raises:
        StorageError: The disk is full, read-only or out of reach.
    """
    from ray_trash.model.tensors import to_torch_file

    storage = Storage.at(directory)
    entry = write_entry(storage, TRAINER_FILE, to_torch_file(dict(trainer)))
    _write_marker(storage, {TRAINER_FILE: entry}, version=FORMAT_VERSION)


def read_trainer_part(storage: Storage) -> dict[str, Any]:
    """Read what resume needs, tensors on the CPU, from what `write_trainer_part` or `write_checkpoint` wrote.

    Raises:
        CheckpointError: There is no checkpoint, it is incomplete, or its file is missing, truncated or changed.
        StorageError: The storage cannot be asked.
    """
    _, entries, _ = _read_marker(storage)
    if TRAINER_FILE not in entries:
        raise CheckpointError(f"{storage.uri}: the checkpoint has no {TRAINER_FILE}; it cannot be resumed from")
    return _parse_trainer_file(storage.uri, read_checked(storage, TRAINER_FILE, *entries[TRAINER_FILE]))


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that `open_checkpoint` found complete; its marker is another one for every checkpoint."""

    uri: str
    name: str
    document: CheckpointDocument
    marker: bytes = dataclasses.field(repr=False)
    _files: Mapping[str, bytes] = dataclasses.field(repr=False)
    card: str = dataclasses.field(repr=False)
    """Markdown: the card beside the weights, or one made here where there is none or it is of other weights."""
    quantized: Quantized | None = None
    """Where an int8 network answers: it."""

    def weights(self) -> dict[str, Tensor]:
        """Return the network's tensors, float32 on the CPU, or raise `CheckpointError`."""
        from ray_trash.model.tensors import from_safetensors

        return from_safetensors(self._files[WEIGHTS_FILE], f"{self.uri}/{WEIGHTS_FILE}")

    def trainer(self) -> dict[str, Any]:
        """Return what resume needs, tensors on the CPU, or raise `CheckpointError`; only if opened `with_trainer`."""
        assert TRAINER_FILE in self._files, f"{self.uri} was opened without its trainer part"
        return _parse_trainer_file(self.uri, self._files[TRAINER_FILE])


def open_checkpoint(place: str | Path | Storage, *, with_trainer: bool = False) -> Checkpoint:
    """Open a checkpoint and check it, once, against its marker.

    The bytes that were checked are kept, so what is used is what was checked. Of what resume needs, unless
    `with_trainer`, only the file's size is compared.

    Raises:
        CheckpointError: There is no checkpoint, it is incomplete, or a file is missing, truncated, changed or of
            another version; the file is named.
        StorageError: The storage cannot be asked.
    """
    storage = place if isinstance(place, Storage) else Storage.at(place)
    marker, entries, version = _read_marker(storage)
    wanted = _SERVED_FILES + ((TRAINER_FILE,) if with_trainer else ())
    if version == INT8_FORMAT_VERSION:
        wanted += _QUANTIZED_FILES
    absent = [name for name in wanted if name not in entries]
    if absent == [TRAINER_FILE]:
        problem = f"{storage.uri}: the checkpoint has no {TRAINER_FILE}; it can be used, but not resumed from"
        if any(name.startswith(f"{TRAINER_FOLDER}/") for name in entries):
            problem += "; another ray-trash wrote it: resume with that one, or start anew with --overwrite"
        raise CheckpointError(problem)
    if entries.keys() == {TRAINER_FILE}:
        raise CheckpointError(
            f"{storage.uri}: made in the middle of an epoch, for --resume alone; use the checkpoint of an epoch"
        )
    if absent:
        raise CheckpointError(f"{storage.uri}: the checkpoint has no {' and no '.join(absent)}")
    files: dict[str, bytes] = {}
    for name, (size_bytes, digest) in entries.items():
        if name in wanted:
            files[name] = read_checked(storage, name, size_bytes, digest)
        else:
            require_size(storage, name, size_bytes)
    where = f"{storage.uri}/{DOCUMENT_FILE}"
    document = document_from_json(files[DOCUMENT_FILE], where)
    if format_version(document) != version:
        raise CheckpointError(
            f"{where}: is not of the version that {MARKER} says; copy the checkpoint again as a whole"
        )
    networks = [entries[name][1] for name in (WEIGHTS_FILE, *(INT8_FILES if document.is_int8 else ()))]
    expected_id = model_id(networks, files[DOCUMENT_FILE])
    named_by_weights = "" if document.is_int8 else networks[0][:ID_DIGITS]
    if document.id not in (expected_id, named_by_weights):
        raise CheckpointError(
            f"{where}: it belongs to the model {document.id}; these weights, with these classes, preprocessing and "
            f"calibration, are {expected_id}; copy the checkpoint again as a whole"
        )
    name = posixpath.basename(storage.path.rstrip("/"))
    quantized = _quantized(storage.uri, files) if document.is_int8 else None
    card = _read_card(storage, document, quantized)
    return Checkpoint(storage.uri, name, document, marker, files, card, quantized)


def _quantized(uri: str, files: dict[str, bytes]) -> Quantized:
    # Taken out of the others: what serves is handed from process to process.
    xml, weights, report = (files.pop(name) for name in _QUANTIZED_FILES)
    return Quantized((xml, weights), json_object(report, f"{uri}/{QUANTIZED_FILE}"))


def _read_card(storage: Storage, document: CheckpointDocument, quantized: Quantized | None) -> str:
    try:
        card = storage.read_bytes(CARD_FILE)
    except StorageError:
        card = b""  # of an older checkpoint, or for others to read: nothing that answers depends on it
    if not card_is_of(card, document) or len(card) > _MAX_CARD_BYTES:
        return model_card(document, quantized=quantized.report if quantized else None)
    return card.decode("utf-8", "replace")


def _write_marker(storage: Storage, entries: Mapping[str, Mapping[str, Any]], *, version: int) -> None:
    marker = {"format_version": version, "files": entries}
    storage.write_bytes(MARKER, (json.dumps(marker, indent=2) + "\n").encode())


def _parse_trainer_file(uri: str, data: bytes) -> dict[str, Any]:
    from ray_trash.model.tensors import from_torch_file

    state: dict[str, Any] = from_torch_file(data, f"{uri}/{TRAINER_FILE}: cannot be read; copy it again")
    return state


def _read_marker(storage: Storage) -> tuple[bytes, dict[str, tuple[int, str]], int]:
    if not storage.exists(MARKER):
        raise CheckpointError(_why_no_marker(storage))
    where = f"{storage.uri}/{MARKER}"
    marker = storage.read_bytes(MARKER)
    tree = json_object(marker, where)
    version = require_format_version(tree, where)
    try:
        entries = {str(name): (int(entry["size_bytes"]), str(entry["sha256"])) for name, entry in tree["files"].items()}
        return marker, entries, version
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
            f"{storage.uri}: the checkpoint is incomplete, its {MARKER} marker is missing: writing or copying it was "
            "cut short; use another checkpoint or copy it again"
        )
    needed = ", ".join(_SERVED_FILES)
    return f"{storage.uri}: not a checkpoint, which is a folder with {needed} and {MARKER}"


def _render(document: CheckpointDocument) -> bytes:
    text = document_to_json(document)
    try:
        document_from_json(text.encode(), DOCUMENT_FILE)
    except CheckpointError as error:
        raise ValueError(f"a document that could not be read back: {error}") from error
    return text.encode()
