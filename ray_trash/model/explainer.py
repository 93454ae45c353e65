"""What an answer of a checkpoint looked at: maps over photos, by torch on the CPU, whatever engine answers.

Letters in shapes: S side of the square in pixels, H and W the last stage's places.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ray_trash.model.activation_map import activation_map
from ray_trash.model.checkpoint import Checkpoint
from ray_trash.model.predictor import load_network


class Explainer:
    """A checkpoint's network, kept for its maps."""

    def __init__(self, checkpoint: Checkpoint, *, views: int | None = None) -> None:
        """Load the network, or raise `CheckpointError`; `views` is as many as an answer has. Default: the stored."""
        self._network = load_network(checkpoint).requires_grad_(False)
        self._preprocessing = checkpoint.document.preprocessing
        self._views = views or checkpoint.document.views

    def heat(self, square: NDArray[np.uint8], label: int) -> NDArray[np.float32]:
        """Say how much each place of a photo (S, S, 3) speaks for a class: (H, W), as `activation_map` does."""
        return activation_map(self._network, square, label, self._preprocessing, views=self._views)
