"""What computes a network's answers, and which of them a machine should use.

All engines answer alike: they differ by the rounding of their arithmetic, and `tests/unit/model/test_engine.py` says
by how much.

Letters in shapes: B photos, S side in pixels, C classes.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ray_trash.errors import ConfigError
from ray_trash.model.precision import DeviceChoice, PrecisionChoice, resolve_device, resolve_precision

EngineChoice = Literal["auto", "torch", "openvino"]


class Engine(Protocol):
    """Computes what a network says of photos; may be called from several threads at once."""

    def probabilities(self, photos: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (B, C) float32 for (B, S, S, 3) uint8, B at least 1; every row adds up to 1."""
        ...


@dataclass(frozen=True)
class EnginePlan:
    """Which engine computes, where and in what (float32, bfloat16 or int8), and why, in a few words."""

    kind: Literal["torch", "openvino"]
    device: torch.device
    dtype: torch.dtype
    why: str

    @property
    def name(self) -> str:
        """What to call it, such as `openvino float32 on cpu`."""
        return f"{self.kind} {str(self.dtype).removeprefix('torch.')} on {self.device.type}"


def plan_engine(choice: EngineChoice, device: DeviceChoice, precision: PrecisionChoice) -> EnginePlan:
    """Choose what computes on this machine: `auto` takes OpenVINO on a CPU where it is installed, else torch.

    Raises:
        ClusterError: This process has no such device, or the device no such precision.
        ConfigError: OpenVINO was asked for where it is not installed, or on a GPU.
    """
    target = resolve_device(device)
    dtype, why = resolve_precision(precision, target)
    installed = importlib.util.find_spec("openvino") is not None
    if choice == "openvino" and target.type != "cpu":
        raise ConfigError("serve.engine=openvino: computes on CPUs only; set serve.device=cpu, or serve.engine=auto")
    if choice == "openvino" and not installed:
        raise ConfigError("serve.engine=openvino: OpenVINO is not installed; pip install openvino, or set auto")
    kind: Literal["torch", "openvino"] = "torch"
    if choice == "openvino" or (choice == "auto" and target.type == "cpu" and installed):
        kind = "openvino"
    return EnginePlan(kind, target, dtype, why)


def plan_int8_engine(choice: EngineChoice, device: DeviceChoice, where: str) -> EnginePlan:
    """Choose what computes an int8 network: OpenVINO on a CPU, and nothing in its place; `where` is the checkpoint.

    Raises:
        ClusterError: This process has no such device.
        ConfigError: Something else was asked for, or is what `auto` means here.
    """
    target = resolve_device(device)
    otherwise = "or ask for the float network in it with serve.precision=fp32 or bf16"
    problem = ""
    if choice == "torch":
        problem = f"which OpenVINO alone computes; set serve.engine=auto, {otherwise}"
    elif target.type != "cpu":
        problem = f"which CPUs compute, and this process has a GPU; set serve.device=cpu, {otherwise}"
    elif importlib.util.find_spec("openvino") is None:
        problem = f"for which OpenVINO is not installed here; pip install openvino, {otherwise}"
    if problem:
        raise ConfigError(f"{where}: answers by an int8 network, {problem}")
    return EnginePlan("openvino", target, torch.int8, "the checkpoint has an int8 network")
