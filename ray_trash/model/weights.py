"""Pretrained weights: from torchvision, a file or a checkpoint into a network.

A file is read as numbers only, whatever it holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ray_trash.errors import CheckpointError, StorageError
from ray_trash.model.checkpoint import MARKER, open_checkpoint
from ray_trash.model.imagenet import imagenet_file
from ray_trash.model.tensors import fit_state, from_safetensors, from_torch_file, plain_state
from ray_trash.storage import Storage
from ray_trash.terminal.say import Terminal

_NESTED_KEYS = ("state_dict", "model")


def load_pretrained(
    network: nn.Module,
    weights: str,
    *,
    architecture: str = "resnet50",
    cache_dir: Path | None = None,
    url: str | None = None,
    terminal: Terminal | None = None,
) -> list[str]:
    """Load pretrained weights into a network, all that belong to it or none.

    A head of another shape is not loaded, as that of ImageNet's 1,000 classes is.

    The weights are `none`, `imagenet` (where `imagenet_file` has them), or a path or URI of a safetensors file, of a
    torch state dict, or of a checkpoint of this project. Those of ImageNet are of the `architecture`.

    Returns:
        Lines for people: what was loaded and what was left.

    Raises:
        CheckpointError: There are no such weights, they cannot be read without running code, or tensors
            do not fit; the first few are named.
        StorageError: The ImageNet weights cannot be kept.
    """
    if weights == "none":
        return ["random weights, nothing loaded (model.weights=none)"]
    is_kept = weights == "imagenet"
    place = str(imagenet_file(architecture, cache_dir=cache_dir, url=url, terminal=terminal)) if is_kept else weights
    state, kind = _read_place(place)
    notes = fit_state(network, state, where=place, pretrained=True)
    return [f"{len(state)} tensors from {place} ({kind})", *notes]


def _read_place(place: str) -> tuple[dict[str, Tensor], str]:
    try:
        storage = Storage.at(place)
        if not storage.exists():
            raise CheckpointError(
                f"model.weights: nothing at {storage.uri}; give imagenet, none, a file of weights or a checkpoint"
            )
        if storage.exists(MARKER):
            return open_checkpoint(storage).weights(), "checkpoint"
        data = storage.read_bytes("")
    except StorageError as error:
        raise CheckpointError(
            f"model.weights: {error}; a file of weights or a complete checkpoint can be read"
        ) from error
    if _is_safetensors(data):
        return plain_state(_as_state(from_safetensors(data, place), place)), "safetensors"
    # torch's own advice for a file it refuses is to let it run code; that must not reach the user.
    complaint = (
        f"{place}: neither safetensors nor a torch state dict that can be read without running code; "
        "save the network's numbers alone, torch.save(network.state_dict(), path)"
    )
    return plain_state(_as_state(from_torch_file(data, complaint), place)), "torch state dict"


def _is_safetensors(data: bytes) -> bool:
    # Eight bytes with the length of a JSON header, then the header. A torch file starts with PK or a pickle.
    return data[8:9] == b"{"


def _as_state(content: Any, where: str) -> dict[str, Tensor]:
    for key in _NESTED_KEYS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content or not all(map(_is_plain_tensor, content.values())):
        raise CheckpointError(
            f"{where}: not a table of named tensors; expected what torch.save(network.state_dict(), path) "
            f"writes, alone or under the key {' or '.join(_NESTED_KEYS)}"
        )
    return {str(name): tensor for name, tensor in content.items()}


def _is_plain_tensor(value: Any) -> bool:
    is_on_cpu = isinstance(value, Tensor) and value.device.type == "cpu"
    return is_on_cpu and value.layout == torch.strided and not value.is_quantized
