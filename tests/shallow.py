"""ResNets of one narrow block a stage: outputs have the shapes of ResNet50's, at a tenth of the cost."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest


def build_shallow_resnets(network: ModuleType, patch: pytest.MonkeyPatch) -> None:
    """Have `ray_trash.model.network` build them; it is handed in, so that nobody loads torch for this."""
    resnet = vars(network)["ResNet"]
    block = sys.modules[resnet.__module__].Bottleneck
    patch.setattr(network, "resnet50", lambda weights: resnet(block, [1, 1, 1, 1], width_per_group=16))
