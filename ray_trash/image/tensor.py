"""From uint8 photos to the network's input, on the device the photos are on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ray_trash.image.preprocess import Preprocessing
from ray_trash.image.symmetry import SYMMETRIES


def normalise(batch: Tensor, preprocessing: Preprocessing, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """Scale photos to 0..1, subtract the mean and divide by the standard deviation.

    From (B, S, S, 3) uint8, left unchanged, to (B, 3, S, S) in `channels_last` memory format, about -2.2..2.7, on the
    same device. Computed in float32 whatever the result's type, so that bfloat16 is rounded once.
    """
    # (B, S, S, 3) contiguous, seen as (B, 3, S, S), is channels_last: only the conversion copies.
    photos = batch.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.channels_last)
    mean, std = (_of_channels(levels, batch.device) for levels in (preprocessing.mean, preprocessing.std))
    return photos.sub_(mean * 255).div_(std * 255).to(dtype)


def _of_channels(levels: Sequence[float], device: torch.device) -> Tensor:
    if device.type == "cpu":
        return torch.tensor(levels).view(3, 1, 1)
    # A copy from this process waits for all that a GPU is still to compute, and cannot be recorded in a CUDA graph.
    return torch.stack([torch.full((1, 1), level, device=device) for level in levels])


def symmetries(images: Tensor, views: int) -> list[Tensor]:
    """List a batch (B, C, S, S) of squares under the first `views` symmetries, 1 or 8; the first is `images` itself."""
    turned = (
        torch.rot90(images.flip(3) if mirrored else images, quarter_turns, dims=(2, 3))
        for mirrored, quarter_turns, _ in SYMMETRIES[1:views]
    )
    return [images, *(view.contiguous(memory_format=torch.channels_last) for view in turned)]
