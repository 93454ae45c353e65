"""The moving average of a network's weights that is validated and served."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MovingAverage:
    """An average network that follows a trained one; both keep their tensors while this lives."""

    def __init__(self, average: nn.Module, network: nn.Module) -> None:
        """Take two networks of the same kind."""
        self._averages, self._weights = list[Tensor](), list[Tensor]()
        self._copies, self._counts = list[Tensor](), list[Tensor]()
        for own, followed in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
            if own.is_floating_point():
                self._averages.append(own)
                self._weights.append(followed)
            else:
                self._copies.append(own)
                self._counts.append(followed)

    @torch.no_grad()
    def follow(self, decay: float, step: int) -> None:
        """Move towards the network after a step of the run, from 0; batch norms' counts are copied."""
        # Early averages forget faster, or the random head would linger. Source: tf.train.ExponentialMovingAverage.
        decay = min(decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._averages, self._weights, 1 - decay)
        torch._foreach_copy_(self._copies, self._counts)
