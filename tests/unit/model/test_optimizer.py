from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from ray_trash.errors import CheckpointError
from ray_trash.model.network import restore_optimizer
from ray_trash.model.tensors import from_torch_file, to_torch_file

OPTIMIZERS = {
    "adam": lambda groups: torch.optim.Adam(groups),
    "adamw": lambda groups: torch.optim.AdamW(groups, amsgrad=True),
    "sgd": lambda groups: torch.optim.SGD(groups, momentum=0.9, nesterov=True),
    "plain sgd": lambda groups: torch.optim.SGD(groups, momentum=0.0),
}


def build_network() -> nn.Sequential:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8 * 36, 3))
    return network.to(memory_format=torch.channels_last)


def groups_of(network: nn.Sequential) -> list[dict]:
    return [
        {"name": "body", "params": list(network[:2].parameters()), "lr": 1e-2, "weight_decay": 0.1},
        {"name": "head", "params": list(network[3].parameters()), "lr": 3e-2},
    ]


def train(network, optimizer, steps: range) -> None:
    for step in steps:
        images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        cross_entropy(network(images), torch.tensor([0, 1, 2, 0])).backward()
        optimizer.step()
        for group in optimizer.param_groups:
            group["lr"] *= 0.7


def through_a_file(optimizer) -> dict:
    return from_torch_file(to_torch_file(optimizer.state_dict()), "state")


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_training_goes_on_to_the_bit_after_a_round_trip(kind):
    unbroken = build_network()
    train(unbroken, optimizer := OPTIMIZERS[kind](groups_of(unbroken)), range(6))

    first = build_network()
    train(first, stopped := OPTIMIZERS[kind](groups_of(first)), range(3))
    second = build_network()
    second.load_state_dict(first.state_dict())
    resumed = OPTIMIZERS[kind](groups_of(second))
    restore_optimizer(resumed, through_a_file(stopped))
    train(second, resumed, range(3, 6))

    for name, tensor in unbroken.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name
    assert [group["lr"] for group in resumed.param_groups] == [group["lr"] for group in optimizer.param_groups]


def test_restored_groups_are_as_they_were_with_types():
    network = build_network()
    train(network, stopped := OPTIMIZERS["adamw"](groups_of(network)), range(1))
    resumed = OPTIMIZERS["adamw"](groups_of(network))
    restore_optimizer(resumed, through_a_file(stopped))
    assert resumed.state_dict()["param_groups"] == stopped.state_dict()["param_groups"]


def test_restored_moments_have_the_memory_format_of_their_parameters():
    network = build_network()
    train(network, stopped := OPTIMIZERS["adam"](groups_of(network)), range(1))
    resumed = OPTIMIZERS["adam"](groups_of(network))
    restore_optimizer(resumed, through_a_file(stopped))
    weight = network.get_parameter("0.weight")
    assert weight.stride() != weight.contiguous().stride()
    assert resumed.state[weight]["exp_avg"].stride() == weight.stride()


def test_what_was_never_stepped_is_restored_as_such():
    network = build_network()
    network[0].requires_grad_(False)
    train(network, stopped := OPTIMIZERS["adamw"](groups_of(network)), range(2))
    resumed = OPTIMIZERS["adamw"](groups_of(network))
    restore_optimizer(resumed, through_a_file(stopped))
    assert network.get_parameter("0.weight") not in resumed.state
    assert resumed.state[network.get_parameter("1.weight")]["step"] == 2


def test_another_optimizer_is_refused():
    network = build_network()
    train(network, stopped := OPTIMIZERS["sgd"](groups_of(network)), range(1))
    with pytest.raises(CheckpointError, match="another optimizer"):
        restore_optimizer(OPTIMIZERS["adam"](groups_of(network)), through_a_file(stopped))


def test_other_groups_are_refused():
    network = build_network()
    train(network, stopped := OPTIMIZERS["adam"](groups_of(network)), range(1))
    with pytest.raises(CheckpointError, match=r"\['body', 'head'\], here \['head'\]"):
        restore_optimizer(OPTIMIZERS["adam"](groups_of(network)[1:]), through_a_file(stopped))


def test_parameters_of_another_shape_are_refused():
    network = build_network()
    train(network, stopped := OPTIMIZERS["adam"](groups_of(network)), range(1))
    network[3] = nn.Linear(8 * 36, 4)
    with pytest.raises(CheckpointError, match=r"state\.4\.exp_avg\w*: shape \(3, 288\).*\(4, 288\)"):
        restore_optimizer(OPTIMIZERS["adam"](groups_of(network)), through_a_file(stopped))


@pytest.mark.parametrize("stored_fused", [True, None])
def test_how_an_optimizer_steps_is_its_own_to_say_whoever_stored_its_state(stored_fused):
    # As between a machine with a GPU, where steps are fused, and one without.
    here = None if stored_fused else True
    first, second = build_network(), build_network()
    stored = torch.optim.AdamW(groups_of(first), fused=stored_fused)
    train(first, stored, range(3))
    second.load_state_dict(first.state_dict())
    resumed = torch.optim.AdamW(groups_of(second), fused=here)
    restore_optimizer(resumed, through_a_file(stored))
    assert {group["fused"] for group in resumed.param_groups} == {here}
    assert [group["lr"] for group in resumed.param_groups] == [group["lr"] for group in stored.param_groups]
    train(first, stored, range(3, 6))
    train(second, resumed, range(3, 6))
    # Of the head: what batch norm takes away again has a gradient of rounding errors.
    for ours, theirs in zip(first[3].parameters(), second[3].parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
