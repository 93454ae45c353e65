"""Torch in unit tests: small networks, one thread. Where no collected test has loaded it, nor does this."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="package", autouse=True)
def shallow_resnet() -> Iterator[None]:
    """Build ResNets of one narrow block a stage: outputs have the shapes of ResNet50's, at a tenth of the cost."""
    network = sys.modules.get("ray_trash.model.network")
    if network is None:
        yield
        return
    resnet = network.ResNet
    block = sys.modules[resnet.__module__].Bottleneck
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "resnet50", lambda weights: resnet(block, [1, 1, 1, 1], width_per_group=16))
        yield


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Compute in one thread: several that wait for each other on busy processors take a hundred times as long."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
