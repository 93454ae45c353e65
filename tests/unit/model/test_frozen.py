"""The frozen stages and the trained ones compute together what the whole network computes."""

from __future__ import annotations

import pytest
import torch

from ray_trash.model.frozen import TrainedStages, activation_shape, activations_after, frozen_digest
from ray_trash.model.network import build_network
from ray_trash.model.resnet import ResNet

NUMBERS = (1, 2, 3, 4, 5)


@pytest.fixture(scope="module")
def network() -> ResNet:
    torch.manual_seed(0)
    return build_network(3, hidden_layers=(8,), dropout=0.5).eval()


@pytest.mark.parametrize("side_px", [32, 40, 65])
def test_the_trained_stages_continue_what_any_number_of_frozen_stages_began(network: ResNet, side_px: int) -> None:
    photos = torch.randn(2, 3, side_px, side_px)
    with torch.inference_mode():
        whole = network(photos)
        for n_frozen, activations in activations_after(network, photos, NUMBERS).items():
            torch.testing.assert_close(TrainedStages(network, n_frozen).eval()(activations), whole)


@pytest.mark.parametrize("side_px", [32, 40, 65, 160])
def test_the_shape_of_activations_is_known_without_computing_them(network: ResNet, side_px: int) -> None:
    with torch.inference_mode():
        found = activations_after(network, torch.zeros(1, 3, side_px, side_px), NUMBERS)
    for n_frozen, activations in found.items():
        channels_last = activations[0].permute(1, 2, 0) if n_frozen < 5 else activations[0]
        assert tuple(channels_last.shape) == activation_shape(n_frozen, side_px, architecture="resnet50")


@pytest.mark.parametrize("architecture", ["resnet10", "resnet18"])
def test_a_smaller_network_is_cut_at_the_same_stages(architecture: str) -> None:
    network, photos = build_network(3, architecture=architecture).eval(), torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        whole = network(photos)
        for n_frozen, activations in activations_after(network, photos, NUMBERS).items():
            channels_last = activations[0].permute(1, 2, 0) if n_frozen < 5 else activations[0]
            assert tuple(channels_last.shape) == activation_shape(n_frozen, 64, architecture=architecture)
            torch.testing.assert_close(TrainedStages(network, n_frozen).eval()(activations), whole)


def test_the_trained_stages_are_the_networks_own(network: ResNet) -> None:
    trained = TrainedStages(network, 4)
    own = {id(parameter) for parameter in network.parameters()}
    assert all(id(parameter) in own for parameter in trained.parameters())
    assert {id(parameter) for parameter in network.layer4.parameters()} <= {id(p) for p in trained.parameters()}


def test_the_digest_of_the_frozen_stages_follows_their_weights_and_statistics_and_no_others() -> None:
    network = build_network(3)
    before = frozen_digest(network, 3)
    with torch.no_grad():
        network.layer3[0].conv1.weight += 1
        network.fc.weight += 1
    assert frozen_digest(network, 3) == before
    network.layer2[0].bn1.running_mean += 1
    assert frozen_digest(network, 3) != before
