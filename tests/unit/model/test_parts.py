"""A network cut in two computes what it computed whole."""

from __future__ import annotations

import pytest
import torch

from ray_trash.model.network import build_network
from ray_trash.model.parts import Upper, activation_shape, activations_at, lower_digest
from ray_trash.model.resnet import ResNet

CUTS = (1, 2, 3, 4, 5)


@pytest.fixture(scope="module")
def network() -> ResNet:
    torch.manual_seed(0)
    return build_network(3, hidden_layers=(8,), dropout=0.5).eval()


@pytest.mark.parametrize("side_px", [32, 40, 65])
def test_the_upper_part_of_every_cut_continues_what_the_lower_part_began(network: ResNet, side_px: int) -> None:
    photos = torch.randn(2, 3, side_px, side_px)
    with torch.inference_mode():
        whole = network(photos)
        for cut, activations in activations_at(network, photos, CUTS).items():
            torch.testing.assert_close(Upper(network, cut).eval()(activations), whole)


@pytest.mark.parametrize("side_px", [32, 40, 65, 160])
def test_the_shape_of_activations_is_known_without_computing_them(network: ResNet, side_px: int) -> None:
    with torch.inference_mode():
        found = activations_at(network, torch.zeros(1, 3, side_px, side_px), CUTS)
    for cut, activations in found.items():
        channels_last = activations[0].permute(1, 2, 0) if cut < 5 else activations[0]
        assert tuple(channels_last.shape) == activation_shape(cut, side_px)


def test_the_upper_part_trains_the_networks_own_weights(network: ResNet) -> None:
    upper = Upper(network, 4)
    own = {id(parameter) for parameter in network.parameters()}
    assert all(id(parameter) in own for parameter in upper.parameters())
    assert {id(parameter) for parameter in network.layer4.parameters()} <= {id(p) for p in upper.parameters()}


def test_the_digest_of_the_lower_part_follows_its_weights_and_statistics_and_no_others() -> None:
    network = build_network(3)
    before = lower_digest(network, 3)
    with torch.no_grad():
        network.layer3[0].conv1.weight += 1
        network.fc.weight += 1
    assert lower_digest(network, 3) == before
    network.layer2[0].bn1.running_mean += 1
    assert lower_digest(network, 3) != before
