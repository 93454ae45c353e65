"""What `image.augment` does to a photo, done to a batch of them by torch, on the device they are on.

From the same draws; filters are Pillow's, weight for weight, so that what differs are roundings: `tests/unit/image/
test_batch.py` says by how much. Letters: B photos, H and W pixels of what is stored, S side in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ray_trash.image.augment import Change

_GREY = (19595.0, 38470.0, 7471.0)
_GREY_SCALE = 65536.0
"""Shares of red, green and blue. Source of both: Pillow's Convert.c, for ITU-R 601-2 luma."""

_LAST_BITS = 1e-3
"""Of a level of 0..255: far more than float32 rounds off."""

_Transpose = Image.Transpose
_MIRRORED_AND_TRANSPOSED = {
    None: (False, False, False),
    _Transpose.FLIP_LEFT_RIGHT: (True, False, False),
    _Transpose.FLIP_TOP_BOTTOM: (False, True, False),
    _Transpose.ROTATE_180: (True, True, False),
    _Transpose.TRANSPOSE: (False, False, True),
    _Transpose.ROTATE_90: (True, False, True),
    _Transpose.ROTATE_270: (False, True, True),
    _Transpose.TRANSVERSE: (True, True, True),
}
"""Each symmetry as a mirror from left to right, one from top to bottom, then an exchange of rows and columns."""

_CUT, _SYMMETRY, _TURN, _COLOURS, _ERASED = (slice(0, 4), slice(4, 7), slice(7, 11), slice(11, 14), slice(14, 18))
_N_VALUES = 18
_NO_TURN, _NO_COLOURS, _NOTHING = (1.0, 0.0, 0.0, 1.0), (1.0, 1.0, 1.0), (0, 0, 0, 0)


def as_values(changes: Sequence[Change]) -> NDArray[np.float64]:
    """Write down changes as numbers (B, 18), to be brought to a device in one go."""
    values = np.empty((len(changes), _N_VALUES))
    for row, change in zip(values, changes, strict=True):
        row[_CUT], row[_SYMMETRY] = change.cut, _MIRRORED_AND_TRANSPOSED[change.symmetry]
        row[_TURN] = change.turned or _NO_TURN
        row[_COLOURS] = change.colours or _NO_COLOURS
        row[_ERASED] = change.erased or _NOTHING
    return values


def change_photos(photos: Tensor, values: Tensor, *, preset: str, side_px: int) -> Tensor:
    """Change photos (B, H, W, 3) uint8 as `as_values` (B, 18) says, on the same device, to squares (B, S, S, 3) uint8.

    All changes are of one recipe of that preset. What of a photo lies outside its cut is not looked at.
    """
    with torch.autocast(photos.device.type, enabled=False):
        mirrored_x, mirrored_y, transposed = (flag > 0 for flag in values[:, _SYMMETRY].unbind(1))
        squares = _resized(photos, values[:, _CUT], side_px, mirrored_x, mirrored_y)
        squares = torch.where(transposed.view(-1, 1, 1, 1), squares.transpose(1, 2), squares)
        if preset == "seed":
            squares = _turned(squares, values[:, _TURN])
        if preset == "strong":
            squares = _erased(_recoloured(squares, values[:, _COLOURS].float()), values[:, _ERASED])
        return squares.to(torch.uint8).contiguous()


def _resized(photos: Tensor, cuts: Tensor, side_px: int, mirrored_x: Tensor, mirrored_y: Tensor) -> Tensor:
    """Bring cuts (B, 4) of photos to squares (B, S, S, 3), float32 whole numbers: first the rows, then the columns."""
    n, height, width, _ = photos.shape
    left, top, cut_width, cut_height = cuts.unbind(1)
    across = _weights(left, cut_width, side_px, width, mirrored_x)  # (B, S, W)
    down = _weights(top, cut_height, side_px, height, mirrored_y)  # (B, S, H)
    rows = photos.transpose(1, 2).reshape(n, width, height * 3).float()
    narrow = _rounded(across @ rows).view(n, side_px, height, 3)  # Pillow rounds in between, too
    columns = narrow.transpose(1, 2).reshape(n, height, side_px * 3)
    return _rounded(down @ columns).view(n, side_px, side_px, 3)


def _weights(start: Tensor, length: Tensor, side_px: int, n_px: int, mirrored: Tensor) -> Tensor:
    """Return what each of `n_px` pixels gives to each of S, (B, S, n_px) float32: a triangle, antialiased.

    Pixels `start` to `start + length`, (B,) float64, are brought to S. Source: Pillow's Resample.c, BILINEAR.
    """
    device = start.device
    start, length = start.view(-1, 1, 1), length.view(-1, 1, 1)
    scale = length / side_px
    place = torch.arange(side_px, dtype=torch.float64, device=device).view(1, -1, 1)
    place = torch.where(mirrored.view(-1, 1, 1), side_px - 1 - place, place)
    pixel = torch.arange(n_px, dtype=torch.float64, device=device).view(1, 1, -1)
    distance = (pixel + 0.5 - start - (place + 0.5) * scale).abs()
    weights = (1 - distance / scale.clamp(min=1)).clamp(min=0)
    weights = torch.where((pixel >= start) & (pixel < start + length), weights, torch.zeros_like(weights))
    return (weights / weights.sum(2, keepdim=True)).float()


def _turned(squares: Tensor, turns: Tensor) -> Tensor:
    """Turn squares about their centres, the border carried outwards."""
    turns = turns.float().view(-1, 2, 2)
    grid = F.affine_grid(F.pad(turns, (0, 1)), [len(squares), 3, *squares.shape[1:3]], align_corners=False)
    planes = squares.permute(0, 3, 1, 2)
    turned = F.grid_sample(planes, grid, mode="bilinear", padding_mode="border", align_corners=False)
    # Pillow does not round here, it cuts off; what is a whole number is one but for the last bits.
    return (turned + _LAST_BITS).floor().permute(0, 2, 3, 1)


def _recoloured(squares: Tensor, factors: Tensor) -> Tensor:
    """Multiply brightness, contrast and saturation, one after another, by factors (B, 3)."""
    brightness, contrast, saturation = factors.view(-1, 3, 1, 1, 1).unbind(1)
    squares = _blended(torch.zeros_like(squares), squares, brightness)
    mean = _grey(squares).mean((1, 2, 3), keepdim=True, dtype=torch.float64)
    squares = _blended(_rounded(mean).float(), squares, contrast)
    return _blended(_grey(squares), squares, saturation)


def _blended(base: Tensor, squares: Tensor, factor: Tensor) -> Tensor:
    return (base + factor * (squares - base)).clamp(0, 255).floor()


def _grey(squares: Tensor) -> Tensor:
    red, green, blue = (share * plane for share, plane in zip(_GREY, squares.unbind(3), strict=True))
    return ((red + green + blue + _GREY_SCALE / 2) / _GREY_SCALE).floor().unsqueeze(3)


def _erased(squares: Tensor, boxes: Tensor) -> Tensor:
    """Fill boxes (B, 4) of squares with the squares' means; those without an area fill nothing."""
    left, top, width, height = boxes.view(-1, 4, 1, 1, 1).unbind(1)
    place = torch.arange(squares.shape[1], device=squares.device)
    column, row = place.view(1, 1, -1, 1), place.view(1, -1, 1, 1)
    is_inside = (column >= left) & (column < left + width) & (row >= top) & (row < top + height)
    mean = _rounded(_rounded(squares.mean(2, keepdim=True)).mean(1, keepdim=True))
    return torch.where(is_inside, mean, squares)


def _rounded(values: Tensor) -> Tensor:
    return (values + 0.5).floor()
