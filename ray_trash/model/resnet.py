"""torchvision's ResNets, loaded without torch's compiler.

torchvision (0.25 to 0.29 at least) imports `torch._dynamo` for one question that its `ops/roi_align.py` asks when it
is called, and with that sympy and half of torch.distributed: nearly half of the time that torch and torchvision take
to load, in every command, worker and replica. Nothing here compiles, so the question waits until it is asked.
Everything imports torchvision's names from here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

_COMPILER = "torch._dynamo.utils"


@contextmanager
def _compiler_left_out() -> Iterator[None]:
    if _COMPILER in sys.modules:
        yield
        return
    absent = ModuleType(_COMPILER)
    # Stays in roi_align, and asks torch itself once somebody in this process pools regions.
    vars(absent)["is_compile_supported"] = lambda device: _compiler().is_compile_supported(device)
    vars(absent)["__getattr__"] = _asked_for
    sys.modules[_COMPILER] = absent
    try:
        yield
    finally:
        _forget(absent)


def _asked_for(name: str) -> Any:
    # Another torchvision may want more of it, and gets it; Python's import looks for names of its own.
    if name.startswith("__"):
        raise AttributeError(name)
    return getattr(_compiler(), name)


def _compiler() -> ModuleType:
    _forget(sys.modules.get(_COMPILER))
    return import_module(_COMPILER)


def _forget(module: ModuleType | None) -> None:
    # The real one has a file.
    if module is not None and module is sys.modules.get(_COMPILER) and "__file__" not in vars(module):
        del sys.modules[_COMPILER]


with _compiler_left_out():
    from torchvision.models import ResNet, get_model_weights, resnet18, resnet34, resnet50
    from torchvision.models.resnet import BasicBlock

__all__ = ["ResNet", "get_model_weights", "resnet10", "resnet18", "resnet34", "resnet50"]


def resnet10(weights: None = None) -> ResNet:
    """Build the ResNet with one block a stage, which torchvision lacks, and of which nobody publishes weights."""
    return ResNet(BasicBlock, [1, 1, 1, 1])
