"""From uint8 photos to the network's input, on the device the photos are on."""

from __future__ import annotations

import torch

from ray_trash.image.preprocess import Preprocessing


def normalise(batch: torch.Tensor, preprocessing: Preprocessing, *, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Scale photos to 0..1, subtract the mean and divide by the standard deviation.

    Computed in float32 whatever the result's type, so that bfloat16 is rounded once.

    Args:
        batch: Tensor (B, S, S, 3), uint8 in 0..255, on any device; left unchanged.
        preprocessing: Gives mean and standard deviation.
        dtype: Floating type of the result.

    Returns:
        Tensor (B, 3, S, S) in `channels_last` memory format, on the batch's device, about -2.2..2.7.
    """
    # (B, S, S, 3) contiguous, seen as (B, 3, S, S), is channels_last: only the conversion copies.
    photos = batch.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.channels_last)
    mean = torch.tensor(preprocessing.mean, device=batch.device).view(3, 1, 1)
    std = torch.tensor(preprocessing.std, device=batch.device).view(3, 1, 1)
    return photos.sub_(mean * 255).div_(std * 255).to(dtype)
