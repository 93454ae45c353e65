from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from ray_trash.model.network import (
    STAGES,
    build_network,
    evaluation_mode,
    freeze_stages,
    parameter_groups,
    set_training_mode,
    stage_modules,
)

RATES = {"learning_rate": 1e-3, "head_factor": 5.0, "stage_decay": 0.5, "weight_decay": 0.1}


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build_network(3)


def stage_of(name: str) -> str:
    first = name.partition(".")[0]
    return {"conv1": "stem", "bn1": "stem", "fc": "head"}.get(first, first)


def test_plain_head_has_the_key_names_of_torchvision(network):
    head = {name: tuple(tensor.shape) for name, tensor in network.fc.state_dict(prefix="fc.").items()}
    assert head == {"fc.weight": (3, 2048), "fc.bias": (3,)}


def test_head_is_dense_layers_with_relu_then_dropout_then_linear():
    head = build_network(5, hidden_layers=(64, 16), dropout=0.3).fc
    assert [type(layer) for layer in head] == [
        nn.Linear,
        nn.ReLU,
        nn.Linear,
        nn.ReLU,
        nn.Dropout,
        nn.Linear,
    ]
    shapes = [(layer.in_features, layer.out_features) for layer in head if isinstance(layer, nn.Linear)]
    assert shapes == [(2048, 64), (64, 16), (16, 5)]
    assert head[4].p == 0.3


@pytest.mark.parametrize(("architecture", "n_blocks"), [("resnet10", 4), ("resnet18", 8), ("resnet34", 16)])
def test_a_smaller_network_has_fewer_blocks_and_a_narrower_head(architecture, n_blocks):
    small = build_network(3, architecture=architecture)
    assert sum(len(layer) for layer in (small.layer1, small.layer2, small.layer3, small.layer4)) == n_blocks
    assert small.fc.in_features == 512


def test_weights_follow_the_seed(network):
    torch.manual_seed(0)
    again = build_network(3).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in network.state_dict().items())


def test_stages_and_head_are_the_whole_network(network):
    modules = stage_modules(network)
    assert tuple(modules) == STAGES
    in_stages = [p for part in modules.values() for module in part for p in module.parameters()]
    assert len(in_stages) + 2 == len(list(network.parameters()))


@pytest.mark.parametrize("n", range(6))
def test_frozen_stages_do_not_move_by_a_bit_and_the_others_do(network, n):
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    freeze_stages(network, n)
    set_training_mode(network, n)
    # Groups for every stage and weight decay: what an optimizer could do to frozen tensors.
    groups = parameter_groups(network, frozen_stages=0, **RATES)
    optimizer = torch.optim.AdamW(groups)
    torch.manual_seed(n)
    cross_entropy(network(torch.rand(4, 3, 32, 32)), torch.tensor([0, 1, 2, 0])).backward()
    optimizer.step()
    network.zero_grad()
    moved = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {stage_of(name) for name in moved} == {*STAGES[n:], "head"}
    free = {name for name in before if stage_of(name) not in STAGES[:n]}
    assert moved == free


def test_more_stages_than_there_are_is_refused(network):
    for change in (freeze_stages, set_training_mode):
        with pytest.raises(ValueError, match="6 frozen stages"):
            change(network, 6)


def test_freezing_fewer_stages_frees_the_others_again(network):
    freeze_stages(network, 5)
    freeze_stages(network, 0)
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_evaluation_mode_gives_every_module_its_mode_back(network):
    set_training_mode(network, 3)
    modes = [module.training for module in network.modules()]
    with evaluation_mode(network):
        assert not any(module.training for module in network.modules())
    assert [module.training for module in network.modules()] == modes


def test_learning_rates_fall_from_the_head_down(network):
    groups = parameter_groups(network, frozen_stages=0, **RATES)
    rates = {group["name"]: group["lr"] for group in groups if "." not in group["name"]}
    assert rates == {
        "stem": 1e-3 / 16,
        "layer1": 1e-3 / 8,
        "layer2": 1e-3 / 4,
        "layer3": 1e-3 / 2,
        "layer4": 1e-3,
        "head": 5e-3,
    }


def test_each_trained_parameter_is_in_one_group(network):
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    for frozen_stages in (0, 3, 5):
        groups = parameter_groups(network, frozen_stages=frozen_stages, **RATES)
        grouped = [names[id(parameter)] for group in groups for parameter in group["params"]]
        expected = [name for name in names.values() if stage_of(name) not in STAGES[:frozen_stages]]
        assert sorted(grouped) == sorted(expected)
        assert all(group["params"] for group in groups)


def test_biases_and_norms_have_no_weight_decay(network):
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    for group in parameter_groups(network, frozen_stages=0, **RATES):
        for parameter in group["params"]:
            name = names[id(parameter)]
            is_weight = name.endswith("weight") and ("conv" in name or "downsample.0" in name or "fc" in name)
            assert group["weight_decay"] == (0.1 if is_weight else 0.0), name
