"""Which part of a photo speaks for a class: class activation maps of a ResNet's last stage.

Letters in shapes: S side of the square in pixels, K channels, H and W the last stage's places, C classes.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ray_trash.image.preprocess import Preprocessing
from ray_trash.image.symmetry import SYMMETRIES, symmetric_views
from ray_trash.image.tensor import normalise
from ray_trash.model.resnet import ResNet


def activation_map(
    network: ResNet, photo: NDArray[np.uint8], label: int, preprocessing: Preprocessing, *, views: int = 1
) -> NDArray[np.float32]:
    """Say how much each place of a photo speaks for a class, or against it where negative.

    Under a linear head the places add up to the class's logit less its bias, so the map is what the answer is made of;
    under a head with hidden layers it is the same to first order. Over several views it is the mean of their maps,
    each turned back.

    Sources: Zhou et al. 2016, "Learning deep features for discriminative localization" (the linear head); Selvaraju et
    al. 2017, "Grad-CAM", which generalises it.

    Args:
        network: In evaluation mode, in float32, with parameters that need no gradient.
        photo: (S, S, 3) uint8, as the network sees it.
        label: The class, 0 to C - 1.
        preprocessing: Of the network.
        views: How many symmetries of the photo an answer is a mean over.

    Returns:
        (H, W) float32; 7 by 7 for S = 224.
    """
    squares = np.stack(symmetric_views(photo, views))  # (V, S, S, 3)
    device = next(network.parameters()).device
    maps = _maps(network, normalise(torch.from_numpy(squares).to(device), preprocessing), label)
    turned_back = [_undone(found, view) for view, found in enumerate(maps.cpu().numpy())]
    mean: NDArray[np.float32] = np.mean(turned_back, axis=0, dtype=np.float32)
    return mean


def _maps(network: ResNet, photos: Tensor, label: int) -> Tensor:
    """From (V, 3, S, S) to (V, H, W)."""
    with torch.no_grad():
        features = network.maxpool(network.relu(network.bn1(network.conv1(photos))))
        for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
            features = stage(features)
    features.requires_grad_(True)  # (V, K, H, W)
    with torch.enable_grad():
        logits = network.fc(torch.flatten(network.avgpool(features), 1))
        (slopes,) = torch.autograd.grad(logits[:, label].sum(), features)
    weights = slopes.mean(dim=(2, 3), keepdim=True)  # of a linear head, the weights of the class over H x W
    maps: Tensor = (weights * features).sum(dim=1).detach()
    return maps


def _undone(found: NDArray[np.float32], view: int) -> NDArray[np.float32]:
    mirrored, quarter_turns, _ = SYMMETRIES[view]
    back = np.rot90(found, -quarter_turns)
    return back[:, ::-1] if mirrored else back
