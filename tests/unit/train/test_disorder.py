"""Photos in disorder are made of the photo's own pixels, are drawn anew, and are the same for the same draw."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ray_trash.train import disorder
from ray_trash.train.disorder import KINDS, disordered


def photos(side_px: int, k: int = 3) -> torch.Tensor:
    return torch.rand((k, 3, side_px, side_px), generator=torch.Generator().manual_seed(side_px))


@pytest.mark.parametrize("side_px", [32, 45, 97, 224])
def test_photos_of_any_size_stay_photos_and_none_is_left_in_order(side_px: int) -> None:
    given = photos(side_px)
    for seed in range(12):
        made = disordered(given, np.random.default_rng(seed))
        assert (made.shape, made.dtype) == (given.shape, given.dtype)
        assert given.min() <= made.min()
        assert made.max() <= given.max()
        for one, other in zip(made, given, strict=True):
            assert (one - other).abs().mean() > 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_what_moves_is_the_photo_s_own_pixels_and_what_is_blurred_lies_between_them(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disorder, "KINDS", (kind,))
    monkeypatch.setattr(disorder, "_AS_IT_IS", 1.0)
    given = photos(48)
    for made, photo in zip(disordered(given, np.random.default_rng(1)), given, strict=True):
        own, found = ({tuple(pixel) for pixel in one.flatten(1).T.mul(1e4).round().tolist()} for one in (photo, made))
        if kind == "blurred":
            assert made.std() < photo.std() / 3
        else:
            assert found <= own
        if kind == "shuffled":
            assert len(found) > 0.5 * len(own)
        if kind == "drawn out":
            assert len(found) == 48


def test_the_same_draw_gives_the_same_and_another_one_something_else() -> None:
    first, again, other = (disordered(photos(40), np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_colours_change_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disorder, "KINDS", ("shuffled",))
    given = photos(40, k=64)
    moved = (disordered(given, np.random.default_rng(2)).mean((2, 3)) - given.mean((2, 3))).abs().amax(1) > 0.02
    assert 0.3 < float(moved.float().mean()) < 0.95
