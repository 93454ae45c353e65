"""Photos at another size, by a filter that averages over all that a pixel stands for; one way for every stage."""

from __future__ import annotations

from typing import Literal

import numpy as np

Filter = Literal["bilinear", "bicubic"]


def resize(photo: np.ndarray, width_px: int, height_px: int, *, by: Filter) -> np.ndarray:
    """Bring a photo (height, width, 3), uint8, to another size; the result is C-contiguous.

    By torch's kernel for bytes, a port of Pillow-SIMD: four to five times as fast as Pillow, whose result it has but
    for one value in 600, mostly by one level of 256. It counts in whole numbers, so that processors of any kind give
    the same bits.
    """
    # A process that only looks at small pictures saves two seconds and a quarter of a gigabyte.
    import torch

    # A copy, for torch warns of arrays that cannot be written to, as those of Arrow are. As a batch of one before its
    # axes are named anew, its colours are seen to lie side by side, and those of the result do, too.
    planes = torch.from_numpy(np.array(photo)).unsqueeze(0).permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(planes, size=(height_px, width_px), mode=by, antialias=True)
    return np.ascontiguousarray(resized.permute(0, 2, 3, 1)[0].numpy())
