from __future__ import annotations

import numpy as np
import pytest
import torch

from ray_trash.image.preprocess import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from ray_trash.image.tensor import normalise

PREPROCESSING = Preprocessing(size_px=8, stored_short_side_px=8, fit="stretch")


def photos() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8))


def expected(batch: torch.Tensor) -> torch.Tensor:
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    return ((batch.float() / 255 - mean) / std).permute(0, 3, 1, 2)


def test_photos_are_scaled_by_channel():
    result = normalise(photos(), PREPROCESSING, dtype=torch.float32)
    assert result.shape == (4, 3, 8, 8)
    torch.testing.assert_close(result, expected(photos()), atol=1e-5, rtol=0)


def test_the_result_is_channels_last():
    for dtype in (torch.float32, torch.bfloat16):
        result = normalise(photos(), PREPROCESSING, dtype=dtype)
        assert result.dtype == dtype
        assert result.is_contiguous(memory_format=torch.channels_last)


def test_bfloat16_is_rounded_once():
    result = normalise(photos(), PREPROCESSING, dtype=torch.bfloat16)
    full = normalise(photos(), PREPROCESSING, dtype=torch.float32)
    torch.testing.assert_close(result, full.to(torch.bfloat16), atol=0, rtol=0)


def test_the_batch_is_left_unchanged():
    batch = photos()
    normalise(batch, PREPROCESSING, dtype=torch.float32)
    torch.testing.assert_close(batch, photos(), atol=0, rtol=0)


def test_a_batch_in_another_layout_gives_the_same():
    turned = photos().permute(0, 2, 1, 3)
    result = normalise(turned, PREPROCESSING, dtype=torch.float32)
    torch.testing.assert_close(result, expected(turned), atol=1e-5, rtol=0)
    assert result.is_contiguous(memory_format=torch.channels_last)


def test_an_empty_batch_stays_empty():
    assert normalise(photos()[:0], PREPROCESSING).shape == (0, 3, 8, 8)


@pytest.mark.gpu
def test_a_gpu_gives_the_same_as_the_cpu():
    result = normalise(photos().cuda(), PREPROCESSING, dtype=torch.float32)
    assert result.is_cuda
    assert result.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(result.cpu(), normalise(photos(), PREPROCESSING), atol=1e-6, rtol=0)
