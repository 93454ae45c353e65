"""From photos to probabilities: a network between normalisation and softmax.

Letters in shapes: B photos, S side in pixels, C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ray_trash.image.preprocess import Preprocessing
from ray_trash.image.tensor import normalise, symmetries


def probabilities_of(
    network: nn.Module, photos: Tensor, preprocessing: Preprocessing, *, views: int, dtype: torch.dtype
) -> Tensor:
    """Run a network over photos and average its probabilities over 1 view of them, or the square's 8 symmetries.

    From (B, S, S, 3) uint8 on the network's device to (B, C) float32; every row adds up to 1. The network is taken in
    the mode it is in; every other setting of the caller, such as autocast (on for bfloat16), is overridden.
    """
    device = photos.device.type
    with (
        torch.inference_mode(),
        # Casts that were kept would outlive the recording of a CUDA graph.
        torch.autocast(device, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16, cache_enabled=False),
    ):
        images = normalise(photos, preprocessing, dtype=torch.float32)
        # In float64, so that the mean of rows that add up to 1 adds up to 1.
        first, *others = (torch.softmax(network(view).double(), dim=1) for view in symmetries(images, views))
        return (sum(others, start=first) / views).float()


class Answering(nn.Module):
    """The same as one module, to be traced or exported: from (B, S, S, 3) uint8 to (B, C) float32."""

    def __init__(
        self, network: nn.Module, preprocessing: Preprocessing, *, views: int = 1, temperature: float = 1.0
    ) -> None:
        """Take a network in evaluation mode; logarithms of the views' mean are divided by the temperature."""
        super().__init__()
        self._network, self._preprocessing = network, preprocessing
        self._views, self._temperature = views, temperature

    def forward(self, photos: Tensor) -> Tensor:
        """Return probabilities; every row adds up to 1."""
        images = normalise(photos, self._preprocessing)
        if self._views > 1:
            # One pass for all views: eight would make the graph eight times as long.
            images = torch.cat(symmetries(images, self._views))
        probabilities = torch.softmax(self._network(images), dim=1)
        if self._views > 1:
            probabilities = probabilities.unflatten(0, (self._views, -1)).mean(dim=0)
        if self._temperature != 1:
            probabilities = torch.softmax(probabilities.log() / self._temperature, dim=1)
        return probabilities
