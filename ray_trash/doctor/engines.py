"""Whether every way to answer gives the same answer on this machine, as a checkpoint asks before it is served."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import nn

from ray_trash.doctor.finding import Finding
from ray_trash.errors import CheckpointError, ClusterError, ConfigError
from ray_trash.image.preprocess import Preprocessing
from ray_trash.model.calibration import Calibration
from ray_trash.model.document import Golden
from ray_trash.model.engine import Engine, EngineChoice, EnginePlan, plan_engine
from ray_trash.model.golden import TOLERANCE, compute_golden, require_golden
from ray_trash.model.network import build_network
from ray_trash.model.openvino_engine import OpenVinoEngine
from ray_trash.model.openvino_network import convert_network
from ray_trash.model.precision import DeviceChoice, PrecisionChoice
from ray_trash.model.resnet import ResNet
from ray_trash.model.torch_engine import TorchEngine

_CLASSES = 6
_SIZE_PX = 64
"""Small: what differs between engines does so at any size."""
_PREPROCESSING = Preprocessing(size_px=_SIZE_PX, stored_short_side_px=_SIZE_PX, fit="stretch")
_CHOICES: tuple[tuple[EngineChoice, DeviceChoice, PrecisionChoice], ...] = (
    ("torch", "cpu", "fp32"),
    ("torch", "cpu", "auto"),
    ("openvino", "cpu", "fp32"),
    ("openvino", "cpu", "auto"),
    ("torch", "cuda", "fp32"),
    ("torch", "cuda", "auto"),
)


def check_engines(build: Callable[[EnginePlan, ResNet], Engine] | None = None) -> Finding:
    """Ask every engine that this machine has about the golden photo; `build` makes one. Default: as for an endpoint."""
    network = _network()
    golden = compute_golden(network, _PREPROCESSING, 1, Calibration.none(_CLASSES))
    agree, differ = [], []
    for plan in _plans():
        try:
            _require(golden, plan, (build or _build)(plan, network))
            agree.append(plan.name)
        except CheckpointError as error:
            differ.append(str(error).partition(": ")[2].partition(";")[0])
        except RuntimeError as error:
            differ.append(f"{plan.name} does not start: {str(error).splitlines()[0]}")
    if differ:
        advice = "install the versions of the lock (make setup); until then set serve.engine to one that agrees"
        return Finding("engines", "problem", "; ".join(differ), advice)
    return Finding("engines", "ok", f"the same answer from {', '.join(agree)}")


def _plans() -> Iterator[EnginePlan]:
    """Give every different plan that this machine allows."""
    seen = set()
    for choice in _CHOICES:
        try:
            plan = plan_engine(*choice)
        except (ClusterError, ConfigError):
            continue
        if plan.name not in seen:
            seen.add(plan.name)
            yield plan


def _build(plan: EnginePlan, network: ResNet) -> Engine:
    if plan.kind == "openvino":
        converted = convert_network(network, _PREPROCESSING)
        return OpenVinoEngine(converted, views=1, dtype=plan.dtype, n_threads=torch.get_num_threads())
    on_device = network.to(plan.device)
    return TorchEngine(on_device, _PREPROCESSING, views=1, device=plan.device, dtype=plan.dtype)


def _require(golden: Golden, plan: EnginePlan, engine: Engine) -> None:
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        require_golden(
            engine.probabilities,
            golden,
            _PREPROCESSING,
            tolerance=TOLERANCE[plan.dtype],
            by=plan.name,
            where="engines",
        )


def _network() -> ResNet:
    """Build a network whose answers are neither all alike nor all certain."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_network(_CLASSES)
        # Without statistics of its own, what passes through random weights grows from stage to stage.
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        with torch.no_grad():
            network(torch.rand(4, 3, _SIZE_PX, _SIZE_PX))
    return network.eval().to(memory_format=torch.channels_last)
