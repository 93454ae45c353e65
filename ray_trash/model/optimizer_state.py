"""An optimizer's state as tensors and JSON values, and back, to the bit.

Knows nothing of files or of which optimizer it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ray_trash.errors import CheckpointError


def flatten_optimizer(state_dict: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Split an optimizer's state into what safetensors holds and what JSON holds.

    Args:
        state_dict: As `optimizer.state_dict()` gives it.

    Returns:
        Tensors by flat names, such as `state.3.exp_avg`, and JSON values.
    """
    tensors: dict[str, Tensor] = {}
    state: dict[str, dict[str, Any]] = {}
    for index, entry in state_dict["state"].items():
        state[str(index)] = _without_tensors(entry, f"state.{index}", tensors)
    groups = [
        _without_tensors(group, f"group.{position}", tensors)
        for position, group in enumerate(state_dict["param_groups"])
    ]
    return tensors, {"state": state, "param_groups": groups}


def restore_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
    """Give an optimizer the state that `flatten_optimizer` took from another one.

    Args:
        optimizer: Of the same kind over the same parameters, in the same groups; changed in place.
            Its learning rates become the stored ones.
        tensors: Left as they are, none is shared.
        values: The JSON values.

    Raises:
        CheckpointError: The state is of another optimizer, or of other parameters.
    """
    current = optimizer.state_dict()
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    _require_same_groups(current["param_groups"], values["param_groups"])
    state = {int(index): _with_tensors(entry, f"state.{index}", tensors) for index, entry in values["state"].items()}
    for index, entry in state.items():
        for name, value in entry.items():
            if isinstance(value, Tensor):
                entry[name] = _like_parameter(value, parameters[index], f"state.{index}.{name}")
    groups = [
        {
            key: _as_before(value, before.get(key))
            for key, value in _with_tensors(group, f"group.{position}", tensors).items()
        }
        for position, (group, before) in enumerate(zip(values["param_groups"], current["param_groups"], strict=True))
    ]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _without_tensors(entry: Mapping[str, Any], prefix: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    values = {key: value for key, value in entry.items() if not isinstance(value, Tensor)}
    tensors.update((f"{prefix}.{key}", value.detach()) for key, value in entry.items() if isinstance(value, Tensor))
    return values


def _with_tensors(entry: Mapping[str, Any], prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    start = f"{prefix}."
    own = {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}
    return {**entry, **own}


def _like_parameter(value: Tensor, parameter: Tensor, name: str) -> Tensor:
    if value.ndim == 0:
        return value.clone()
    if value.shape != parameter.shape:
        raise CheckpointError(
            f"optimizer state {name}: shape {tuple(value.shape)} for a parameter of "
            f"{tuple(parameter.shape)}; "
            "it belongs to another architecture, resume with the config of the run"
        )
    # In the parameter's memory format, or every step falls back to the slow loop over tensors.
    return torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)


def _as_before(value: Any, before: Any) -> Any:
    # JSON knows no tuples, and Adam's betas are one.
    return tuple(value) if isinstance(before, tuple) and isinstance(value, list) else value


def _require_same_groups(current: list[dict[str, Any]], stored: list[dict[str, Any]]) -> None:
    def outline(groups: list[dict[str, Any]]) -> list[tuple[Any, int, frozenset[str]]]:
        return [(group.get("name"), len(group["params"]), frozenset(group) - {"initial_lr"}) for group in groups]

    if outline(current) != outline(stored):
        raise CheckpointError(
            "optimizer state: it was stored by another optimizer or for other parameter groups "
            f"({[group.get('name') for group in stored]}, here "
            f"{[group.get('name') for group in current]}); "
            "resume with the config of the run"
        )
