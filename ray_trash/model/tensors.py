"""Tables of named tensors: cleaned for a file, read from safetensors, fitted to a network.

`where` is what errors call the file.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from ray_trash.errors import CheckpointError
from ray_trash.terminal.text import listed

HEAD_PREFIX = "fc."
_WRAPPER_PREFIX = "module."
_COUNTER_SUFFIX = ".num_batches_tracked"


def plain_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring a network's `state_dict`, on any device and in any float format, to the form of a file.

    Tensors are on the CPU, contiguous, floats as float32, without DDP's `module.` before their names.
    """
    wrapped = bool(state) and all(name.startswith(_WRAPPER_PREFIX) for name in state)
    plain: dict[str, Tensor] = {}
    for name, tensor in state.items():
        value = tensor.detach()
        if value.is_floating_point():
            value = value.to(torch.float32)
        plain[name.removeprefix(_WRAPPER_PREFIX) if wrapped else name] = value.cpu().contiguous()
    return plain


def to_safetensors(tensors: Mapping[str, Tensor]) -> bytes:
    """Render tensors as safetensors; equal tensors give equal bytes."""
    storable: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        value = tensor.detach().cpu().contiguous()
        address = value.untyped_storage().data_ptr()
        # The format has no way to say that two names share their memory.
        storable[name] = value.clone() if address in seen else value
        seen.add(address)
    # More than one entry here, and the order of the entries would vary from run to run.
    return save(storable, metadata={"format": "pt"})


def from_safetensors(data: bytes, where: str) -> dict[str, Tensor]:
    """Read safetensors, which can hold numbers and nothing that runs, or raise `CheckpointError`."""
    try:
        return load(data)
    except (SafetensorError, KeyError, ValueError, OverflowError) as error:
        raise CheckpointError(
            f"{where}: cannot be read as safetensors ({error}); the file is damaged, copy it again"
        ) from error


def to_torch_file(content: Any) -> bytes:
    """Render tensors, numbers and text, in containers, as `torch.save` does."""
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def from_torch_file(data: bytes, complaint: str) -> Any:
    """Read what `torch.save` wrote, tensors on the CPU; nothing in it runs, whatever it holds.

    What is not numbers, text and containers is a `CheckpointError` with this complaint.
    """
    try:
        with warnings.catch_warnings():
            # A file that will be refused is refused in one line, without torch's remarks on its pickle.
            warnings.simplefilter("ignore")
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle trips anywhere
        raise CheckpointError(complaint) from error


def fit_state(
    network: nn.Module, state: Mapping[str, Tensor], *, where: str, pretrained: bool = False, assign: bool = False
) -> list[str]:
    """Load tensors into a network, all of them or none.

    Args:
        network: Changed in place, tensor by tensor, keeping its device and memory format.
        state: As `plain_state` gives it.
        where: The file, for messages.
        pretrained: The table is of a network for another task: where its head is another one, or
            it has none, the network keeps its own, and old tables without batch counters are taken.
        assign: Let the network take the tensors over, as one built on the meta device must.

    Returns:
        Lines for people: what was left out, empty where nothing was.

    Raises:
        CheckpointError: Tensors are missing, unexpected, of another shape or kind, or not finite;
            the first few are named.
    """
    own = dict(network.state_dict())
    given = dict(state)
    notes: list[str] = []
    if pretrained and _shapes(own, HEAD_PREFIX) != _shapes(given, HEAD_PREFIX):
        notes.append(_head_note(own, given))
        given = {name: tensor for name, tensor in given.items() if not name.startswith(HEAD_PREFIX)}
        given.update((name, own[name]) for name in own if name.startswith(HEAD_PREFIX))
    # Files older than torch 0.4.1 have no such counters, and with a fixed momentum nothing reads them.
    absent = [name for name in own if name.endswith(_COUNTER_SUFFIX) and name not in given]
    if absent and pretrained and not any(name.endswith(_COUNTER_SUFFIX) for name in given):
        notes.append(f"the file has no batch counters ({len(absent)} num_batches_tracked): they start at 0")
        given.update((name, own[name]) for name in absent)
    _require_fit(own, given, where)
    network.load_state_dict(given, assign=assign)
    return notes


def _require_fit(own: Mapping[str, Tensor], given: Mapping[str, Tensor], where: str) -> None:
    shared = [(name, own[name], given[name]) for name in own if name in given]
    problems = {
        "missing": [name for name in own if name not in given],
        "unexpected": [name for name in given if name not in own],
        "of another shape": [
            f"{name} {_shape(theirs)} instead of {_shape(ours)}"
            for name, ours, theirs in shared
            if theirs.shape != ours.shape
        ],
        "of another kind": [
            f"{name} ({theirs.dtype} instead of {ours.dtype})".replace("torch.", "")
            for name, ours, theirs in shared
            if theirs.dtype != ours.dtype
        ],
    }
    found = [f"{len(names)} {problem}: {listed(names)}" for problem, names in problems.items() if names]
    if found:
        raise CheckpointError(
            f"{where}: the tensors do not fit this network: {'; '.join(found)}; "
            "use weights with torchvision's key names and the same architecture"
        )
    # A network on the meta device keeps its fresh head, whose values do not exist yet.
    broken = [name for name, _, theirs in shared if not (theirs.is_meta or bool(torch.isfinite(theirs).all()))]
    if broken:
        raise CheckpointError(
            f"{where}: {len(broken)} not finite: {listed(broken)}; the file holds NaN or infinity and cannot be used"
        )


def _shapes(state: Mapping[str, Tensor], prefix: str) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in state.items() if name.startswith(prefix)}


def _head_note(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    n_own = _n_classes(own)
    if not _shapes(given, HEAD_PREFIX):
        return f"the file has no head: that of {n_own} classes starts fresh"
    n_given = _n_classes(given)
    return f"the file's head of {n_given} classes is not used: that of {n_own} classes starts fresh"


def _n_classes(state: Mapping[str, Tensor]) -> int:
    biases = [name for name, shape in _shapes(state, HEAD_PREFIX).items() if name.endswith("bias") and len(shape) == 1]
    # The last layer has the highest number; by length first, as fc.10 comes after fc.2.
    return len(state[max(biases, key=lambda name: (len(name), name))]) if biases else 0


def _shape(tensor: Tensor) -> str:
    return "x".join(str(length) for length in tensor.shape) or "single"
