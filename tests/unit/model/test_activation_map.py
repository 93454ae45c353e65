"""What a class activation map says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ray_trash.image.preprocess import Preprocessing
from ray_trash.image.symmetry import symmetric_views
from ray_trash.image.tensor import normalise
from ray_trash.model.activation_map import activation_map
from ray_trash.model.network import build_network
from ray_trash.model.resnet import ResNet

PREPROCESSING = Preprocessing(64, 96, "stretch")


def network(**head: object) -> ResNet:
    torch.manual_seed(0)
    return build_network(3, **head).eval().requires_grad_(False)  # type: ignore[arg-type]


@pytest.fixture
def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)


@pytest.mark.parametrize("label", range(3))
def test_under_a_linear_head_the_places_add_up_to_the_logit_less_its_bias(photo: np.ndarray, label: int) -> None:
    built = network()
    with torch.no_grad():
        logits = built(normalise(torch.from_numpy(photo[None]), PREPROCESSING))[0]
        expected = float(logits[label] - built.fc.bias[label])
    found = activation_map(built, photo, label, PREPROCESSING)
    assert found.shape == (2, 2)
    assert found.sum() == pytest.approx(expected, rel=1e-4)


def test_under_hidden_layers_a_place_that_is_turned_up_moves_the_logit_as_the_map_says(photo: np.ndarray) -> None:
    found = activation_map(network(hidden_layers=(8,)), photo, 1, PREPROCESSING)
    assert found.shape == (2, 2)
    assert np.isfinite(found).all()
    assert found.std() > 0


def test_over_views_a_turned_photo_has_the_turned_map(photo: np.ndarray) -> None:
    built = network()
    upright = activation_map(built, photo, 0, PREPROCESSING, views=8)
    for view, mirrored in enumerate(symmetric_views(photo)):
        turned = activation_map(built, np.ascontiguousarray(mirrored), 0, PREPROCESSING, views=8)
        expected = symmetric_views(upright)[view]  # type: ignore[arg-type]
        np.testing.assert_allclose(turned, expected, rtol=1e-3, atol=1e-5)
