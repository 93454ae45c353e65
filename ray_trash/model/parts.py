"""A network cut in two: the frozen stages below a cut, a fixed function of the photo, and what is trained above it.

A cut is a number of stages, 1 to 5, as in `model.frozen_stages`. Both parts share their modules with the network,
so what is trained in a part is trained in the network. Letters: B photos, C channels, H and W positions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection

from torch import Tensor, nn

from ray_trash.model.network import STAGES, stage_modules
from ray_trash.model.resnet import ResNet
from ray_trash.model.tensors import plain_state, to_safetensors

_CHANNELS = (64, 256, 512, 1024, 2048)
"""Channels after each stage. Source: He et al., "Deep Residual Learning for Image Recognition", 2015, table 1."""


def activations_at(network: ResNet, photos: Tensor, cuts: Collection[int]) -> dict[int, Tensor]:
    """Compute what the stages below some cuts make of photos, in one pass.

    Args:
        network: In evaluation mode below the highest cut.
        photos: Normalised photos (B, 3, S, S).
        cuts: Each in 1..5.

    Returns:
        For every cut (B, C, H, W), and for cut 5, above which there is only the head, pooled (B, C).
    """
    found: dict[int, Tensor] = {}
    x = photos
    for number, stage in enumerate(STAGES[: max(cuts)], start=1):
        x = _stem(network, x) if stage == "stem" else getattr(network, stage)(x)
        if number in cuts:
            found[number] = x if number < len(STAGES) else network.avgpool(x).flatten(1)
    return found


class Upper(nn.Module):
    """The stages above a cut and the head."""

    def __init__(self, network: ResNet, cut: int) -> None:
        """Share the modules of a network."""
        super().__init__()
        self.stages = nn.Sequential(*(getattr(network, stage) for stage in STAGES[cut:]))
        self.pool = network.avgpool
        self.head = network.fc

    def forward(self, activations: Tensor) -> Tensor:
        """Turn activations at the cut into logits (B, classes)."""
        pooled = self.pool(self.stages(activations)).flatten(1) if len(self.stages) else activations
        logits: Tensor = self.head(pooled)
        return logits


def activation_shape(cut: int, side_px: int) -> tuple[int, ...]:
    """Return the shape of one photo's activations at a cut, channels last: (H, W, C), or (C,) at cut 5."""
    channels = _CHANNELS[cut - 1]
    if cut == len(STAGES):
        return (channels,)
    # Convolution and pooling of the stem halve the side, and so does every stage from layer2 on; all round up.
    side = side_px
    for _ in range(2 + max(0, cut - 2)):
        side = -(-side // 2)
    return (side, side, channels)


def lower_digest(network: ResNet, cut: int) -> str:
    """Return the SHA-256 of all that the stages below a cut depend on: weights and statistics."""
    lower = nn.ModuleList(module for stage in STAGES[:cut] for module in stage_modules(network)[stage])
    return hashlib.sha256(to_safetensors(plain_state(lower.state_dict()))).hexdigest()


def _stem(network: ResNet, photos: Tensor) -> Tensor:
    stem: Tensor = network.maxpool(network.relu(network.bn1(network.conv1(photos))))
    return stem
