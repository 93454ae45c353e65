"""One photo, made by code, and its answer, kept in a checkpoint to tell whether it is still answered the same."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from ray_trash.errors import CheckpointError, DivergedError
from ray_trash.image.encode import png_file
from ray_trash.image.preprocess import Preprocessing, fit_photo, load_photo
from ray_trash.model.answering import probabilities_of
from ray_trash.model.calibration import Calibration
from ray_trash.model.document import Golden
from ray_trash.model.network import evaluation_mode

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.2, torch.int8: 0.2}
"""How far a probability may be from the stored one, by the format it is computed in.

In fp32, kernels and processors differ in the last bits of their sums: measured, 3e-7 between two CPU kernels
of ResNet50. A wrong mean or fit moves a trained network by hundredths, wrong weights or classes by tenths.
bf16 keeps 8 bits: measured, 0.02 for common heads and 0.15 for one whose outputs span tens. Since fp32 is
always checked as well, this bound need only tell broken arithmetic from coarse arithmetic.
What an int8 network said is stored as it said it, and its sums are whole numbers: between processors differ only what
rounds them and, without VNNI, the largest ones. By how much nobody has measured, so it has the bound of bf16.
"""
_HEIGHT_PX, _WIDTH_PX = 48, 64


def compute_golden(network: nn.Module, preprocessing: Preprocessing, views: int, calibration: Calibration) -> Golden:
    """Ask a network, not wrapped, about the golden photo, in fp32 and evaluation mode.

    Its modes are as before afterwards. An answer that is not finite is a `DivergedError`.
    """
    png = _golden_png()
    device = next(network.parameters()).device
    # cuDNN takes TF32 for fp32 convolutions unless told otherwise, three digits instead of seven.
    with evaluation_mode(network), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        batch = torch.from_numpy(_square(png, preprocessing)).to(device)
        said = probabilities_of(network, batch, preprocessing, views=views, dtype=torch.float32)
    answer = calibration.apply(said.cpu().numpy())[0].astype(np.float64)
    if not np.isfinite(answer).all():
        raise DivergedError(
            "the network's answer is not finite: its weights or batch-norm statistics overflowed; "
            "lower train.learning_rate"
        )
    return Golden(base64.b64encode(png).decode("ascii"), tuple(answer.tolist()))


def require_golden(
    answer: Callable[[NDArray[np.uint8]], NDArray[np.float32]],
    golden: Golden,
    preprocessing: Preprocessing,
    *,
    tolerance: float,
    by: str,
    where: str,
) -> None:
    """Refuse, as a `CheckpointError`, what no longer answers as it did when the checkpoint was written.

    Args:
        answer: From photos (B, S, S, 3) to calibrated probabilities (B, C).
        golden: The photo and its answer.
        preprocessing: From a photo to the square.
        tolerance: How far a probability may be from the stored one.
        by: Who answers, for messages.
        where: The checkpoint, for messages.
    """
    try:
        png = base64.b64decode(golden.png_base64, validate=True)
    except ValueError as error:
        raise CheckpointError(f"{where}: the golden photo is not base64") from error
    answered = answer(_square(png, preprocessing))[0]
    difference = float(np.abs(answered - np.asarray(golden.probabilities)).max())
    # A comparison with NaN is false, so this refuses what is not finite too.
    if not difference <= tolerance:
        raise CheckpointError(
            f"{where}: the golden photo is answered differently than when the checkpoint was written, a probability "
            f"by {difference:.3g} in {by} (allowed {tolerance:.3g}); the weights, the preprocessing or the libraries "
            "are not those of the checkpoint, do not use it here"
        )


def answer_golden(
    answer: Callable[[NDArray[np.uint8]], NDArray[np.float32]], golden: Golden, preprocessing: Preprocessing
) -> Golden:
    """Return a golden photo that `require_golden` has taken with another answer, as that over more views is."""
    said = answer(_square(base64.b64decode(golden.png_base64), preprocessing))[0]
    return dataclasses.replace(golden, probabilities=tuple(said.tolist()))


def _square(png: bytes, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    photo: NDArray[np.uint8] = fit_photo(load_photo(png, preprocessing), preprocessing)[np.newaxis]
    return photo


def _golden_png() -> bytes:
    rows = np.linspace(0, 1, _HEIGHT_PX)[:, np.newaxis]
    columns = np.linspace(0, 1, _WIDTH_PX)[np.newaxis, :]
    planes = [200 * rows + 40 * columns, 220 * (1 - columns) + 20 * rows, 120 + 100 * rows * columns]
    photo = np.stack([np.broadcast_to(plane, (_HEIGHT_PX, _WIDTH_PX)) for plane in planes], axis=-1)
    photo = photo.round().astype(np.uint8)
    y, x = np.mgrid[:_HEIGHT_PX, :_WIDTH_PX]
    photo[(y - 18) ** 2 + (x - 20) ** 2 < 11**2] = (230, 60, 40)
    photo[26:42, 36:58] = (40, 90, 200)
    photo[(y > 30) & (x < 24) & (x % 6 < 2)] = (250, 250, 240)
    return png_file(Image.fromarray(photo))
