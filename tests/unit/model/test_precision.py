from __future__ import annotations

import pytest
import torch

from ray_trash.errors import ClusterError
from ray_trash.model.precision import bf16_unit, resolve_device, resolve_precision

CPU = torch.device("cpu")


def test_amx_comes_before_the_dot_products_that_such_a_processor_has_too():
    assert bf16_unit({"architecture": "x86_64", "avx512_bf16": True, "amx_bf16": True}) == "AMX-BF16"


def test_arm_bf16_counts():
    assert bf16_unit({"architecture": "arm64", "bf16": True}) == "Arm BF16 MMLA"


def test_avx512_bf16_counts():
    capabilities = {"architecture": "x86_64", "avx512_bf16": True, "amx_tile": False, "amx_bf16": False}
    assert bf16_unit(capabilities) == "AVX512-BF16"


def test_a_processor_that_does_not_say_has_none():
    assert bf16_unit({}) is None


def test_asked_precision_is_taken_as_asked():
    assert resolve_precision("fp32", CPU) == (torch.float32, "as asked")
    assert resolve_precision("bf16", CPU) == (torch.bfloat16, "as asked")


def test_automatic_precision_says_its_reason():
    dtype, reason = resolve_precision("auto", CPU)
    assert ("has no bf16" in reason or "does not use" in reason) == (dtype == torch.float32)


def test_cpu_is_taken_as_asked():
    assert resolve_device("cpu") == CPU


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(ClusterError, match="device=cuda"):
        resolve_device("cuda")
    assert resolve_device("auto") == CPU


@pytest.mark.gpu
def test_a_gpu_is_taken_where_there_is_one():
    device = resolve_device("auto")
    assert device.type == "cuda"
    dtype, reason = resolve_precision("auto", device)
    assert torch.cuda.get_device_name(device) in reason
    assert dtype == (torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float32)
