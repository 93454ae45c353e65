"""The frozen stages, a fixed function of a photo, and what is trained above them.

`n_frozen` is a number of stages, 1 to 5, as in `model.frozen_stages`. Letters: B photos, C channels, H and W positions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection

from torch import Tensor, nn

from ray_trash.model.network import STAGES, first_stages
from ray_trash.model.resnet import ResNet
from ray_trash.model.tensors import plain_state, to_safetensors

_CHANNELS = {
    "resnet10": (64, 64, 128, 256, 512),
    "resnet18": (64, 64, 128, 256, 512),
    "resnet34": (64, 64, 128, 256, 512),
    "resnet50": (64, 256, 512, 1024, 2048),
}
"""Channels after each stage. Source: He et al., "Deep Residual Learning for Image Recognition", 2015, table 1."""


def activations_after(network: ResNet, photos: Tensor, n_frozen: Collection[int]) -> dict[int, Tensor]:
    """Compute the activations of normalised photos (B, 3, S, S) after some numbers of stages, 1 to 5, in one pass.

    The network is in evaluation mode up to the highest of these stages.

    Returns:
        For each (B, C, H, W), and for 5, above which there is only the head, pooled (B, C).
    """
    found: dict[int, Tensor] = {}
    x = photos
    for n, stage in enumerate(STAGES[: max(n_frozen)], start=1):
        x = _stem(network, x) if stage == "stem" else getattr(network, stage)(x)
        if n in n_frozen:
            found[n] = x if n < len(STAGES) else network.avgpool(x).flatten(1)
    return found


class TrainedStages(nn.Module):
    """The stages above the frozen ones, and the head; they share their modules with the network."""

    def __init__(self, network: ResNet, n_frozen: int) -> None:
        """Take them from a network."""
        super().__init__()
        self.stages = nn.Sequential(*(getattr(network, stage) for stage in STAGES[n_frozen:]))
        self.pool = network.avgpool
        self.head = network.fc

    def forward(self, activations: Tensor) -> Tensor:
        """Turn activations after the frozen stages into logits (B, classes)."""
        pooled = self.pool(self.stages(activations)).flatten(1) if len(self.stages) else activations
        logits: Tensor = self.head(pooled)
        return logits


def activation_shape(n_frozen: int, side_px: int, *, architecture: str) -> tuple[int, ...]:
    """Return the shape of one photo's activations, channels last: (H, W, C), or (C,) after all 5 stages."""
    channels = _CHANNELS[architecture][n_frozen - 1]
    if n_frozen == len(STAGES):
        return (channels,)
    # Convolution and pooling of the stem halve the side, and so does every stage from layer2 on; all round up.
    side = side_px
    for _ in range(2 + max(0, n_frozen - 2)):
        side = -(-side // 2)
    return (side, side, channels)


def frozen_digest(network: ResNet, n_frozen: int) -> str:
    """Return the SHA-256 of all that the frozen stages depend on: weights and statistics."""
    frozen = nn.ModuleList(first_stages(network, n_frozen))
    return hashlib.sha256(to_safetensors(plain_state(frozen.state_dict()))).hexdigest()


def _stem(network: ResNet, photos: Tensor) -> Tensor:
    stem: Tensor = network.maxpool(network.relu(network.bn1(network.conv1(photos))))
    return stem
