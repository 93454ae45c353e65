"""Which device computes, and in which number format, with the reason in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch

from ray_trash.errors import ClusterError

DeviceChoice = Literal["auto", "cpu", "cuda"]
PrecisionChoice = Literal["auto", "fp32", "bf16"]


def resolve_device(choice: DeviceChoice) -> torch.device:
    """Choose this process's device: `auto` takes its GPU, where it has one; `cuda` without one is a `ClusterError`."""
    available = torch.cuda.is_available()
    if choice == "cuda" and not available:
        raise ClusterError("device=cuda: this process sees no CUDA GPU; reserve one for it, or use device=cpu or auto")
    if choice == "cpu" or not available:
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


def resolve_precision(choice: PrecisionChoice, device: torch.device) -> tuple[torch.dtype, str]:
    """Choose the format of the network's arithmetic, and say why in a few words.

    `auto` takes bf16 where the device computes with it faster than with fp32. bf16 on a GPU that has none is a
    `ClusterError`; a CPU without the instructions computes with it all the same.
    """
    if choice == "fp32":
        return torch.float32, "as asked"
    if device.type == "cuda":
        with torch.cuda.device(device):
            supported = torch.cuda.is_bf16_supported(including_emulation=False)
        name = torch.cuda.get_device_name(device)
        if choice == "bf16" and not supported:
            raise ClusterError(f"precision=bf16: the GPU {name} has no bf16; use precision=fp32 or auto")
        if choice == "auto" and supported:
            return torch.bfloat16, f"the GPU {name} has bf16"
        if choice == "auto":
            return torch.float32, f"the GPU {name} has no bf16"
    if choice == "bf16":
        return torch.bfloat16, "as asked"
    # Older releases of torch do not say what the processor has; fp32 is right everywhere.
    unit = bf16_unit(getattr(torch.cpu, "get_capabilities", dict)())
    if unit is None:
        return torch.float32, "the processor has no bf16 instructions"
    if not torch.backends.mkldnn.is_available():
        # Only oneDNN's kernels use them; without it bf16 is many times slower than fp32.
        return torch.float32, f"the processor has {unit}, this build of torch does not use it"
    return torch.bfloat16, f"the processor has {unit}"


def bf16_unit(capabilities: Mapping[str, Any]) -> str | None:
    """Name the processor's instructions that multiply matrices in bf16 faster than in fp32, if it has any.

    AVX512-BF16 adds pairs of products where AMX multiplies tiles, which is still twice what fp32 does in an
    instruction: measured on a Zen 4, the upper half of ResNet50 trains 1.9 times and its lower half answers 3.5 times
    as fast.

    Source: the keys are those of `torch.cpu.get_capabilities`; only Arm processors have the key
    `bf16`, for the extension FEAT_BF16, which includes the matrix product BFMMLA.
    """
    for key, name in (("amx_bf16", "AMX-BF16"), ("avx512_bf16", "AVX512-BF16"), ("bf16", "Arm BF16 MMLA")):
        if capabilities.get(key):
            return name
    return None
