"""Photos whose pieces are put in disorder, so that they show nothing: what a network learns to be unsure of.

Letters: K photos, S side in pixels.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ray_trash.model.transfer import to_device

Kind = Literal["shuffled", "tiled", "drawn out", "blurred"]
KINDS: tuple[Kind, ...] = ("shuffled", "tiled", "drawn out", "blurred")
"""Its pieces in another order; one of its pieces everywhere; one of its lines all over; hardly any of its detail."""

_PIECES = (4, 5, 8, 10, 16, 20, 40, 80)
"""Pieces along a side: of most objects four leave nothing that is whole, and eighty leave a photo's colours."""
_SPOTS = (1, 2, 3, 4)
"""Colours along a side that are left of a blurred photo."""
_AS_IT_IS = 0.3
"""Chance that colours stay; else channels change places, contrast and brightness change, and some become negatives."""
_LOG_CONTRAST = (-1.0, 1.2)
_NEGATIVE, _TINTED, _TINT = 0.3, 0.5, 1.4
"""Chances of a negative and of another tint, and how far that goes, in standard deviations of ImageNet's photos."""


def disordered(photos: Tensor, random: np.random.Generator) -> Tensor:
    """Return photos (K, 3, S, S), as the network takes them, in one kind of disorder and in other colours."""
    kind = KINDS[int(random.integers(len(KINDS)))]
    return _recoloured(_blurred(photos, random) if kind == "blurred" else _moved(photos, kind, random), random)


def _moved(photos: Tensor, kind: Kind, random: np.random.Generator) -> Tensor:
    k, _, side_px = photos.shape[:3]
    pixels = torch.arange(side_px, device=photos.device)
    if kind == "drawn out":
        line = to_device(random.integers(0, side_px, k), photos.device)[:, None]
        source = line * side_px + pixels if random.integers(2) else pixels * side_px + line
        source = source[:, None, :].expand(-1, side_px, -1)
        if random.integers(2):
            source = source.transpose(1, 2)
    else:
        n = int(random.choice([n for n in _PIECES if n <= side_px]))
        piece_px = -(-side_px // n)
        if kind == "tiled":
            order = np.repeat(random.integers(0, n * n, (k, 1)), n * n, axis=1)
        else:
            order = np.argsort(random.random((k, n * n)), axis=1)
        along, within = pixels // piece_px, pixels % piece_px
        taken = to_device(order, photos.device)[:, along[:, None] * n + along]
        # Where a piece reaches beyond the border, what is missing is taken from the other end.
        rows = (taken // n * piece_px + within[:, None]) % side_px
        source = rows * side_px + (taken % n * piece_px + within) % side_px
    return photos.flatten(2).gather(2, source.reshape(k, 1, -1).expand(-1, 3, -1)).view_as(photos)


def _blurred(photos: Tensor, random: np.random.Generator) -> Tensor:
    spots = F.adaptive_avg_pool2d(photos, int(random.choice(_SPOTS)))
    return F.interpolate(spots, size=photos.shape[2:], mode="bilinear" if random.integers(2) else "nearest")


def _recoloured(photos: Tensor, random: np.random.Generator) -> Tensor:
    k, device = len(photos), photos.device
    stays = random.random((k, 1)) < _AS_IT_IS
    channels = np.where(stays, np.arange(3), random.permuted(np.tile(np.arange(3), (k, 1)), axis=1))
    contrast = np.exp(random.uniform(*_LOG_CONTRAST, (k, 1))) * np.where(random.random((k, 1)) < _NEGATIVE, -1, 1)
    tint = np.where(random.random((k, 1)) < _TINTED, random.uniform(-_TINT, _TINT, (k, 3)), 0.0)
    scale, offset = (
        to_device(np.where(stays, neutral, drawn).astype(np.float32), device)[..., None, None].to(photos.dtype)
        for neutral, drawn in ((1.0, contrast), (0.0, tint))
    )
    photos = photos.take_along_dim(to_device(channels, device)[..., None, None], dim=1)
    mean = photos.mean((2, 3), keepdim=True)
    lowest, highest = photos.amin(), photos.amax()
    return ((photos - mean) * scale + mean + offset).clamp(lowest, highest)
