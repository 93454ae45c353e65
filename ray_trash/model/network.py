"""A ResNet in stages that freeze one by one, with a head of its own.

What is random follows `torch.manual_seed` of the caller.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.overrides import TorchFunctionMode

from ray_trash.errors import CheckpointError
from ray_trash.model.resnet import ResNet, resnet10, resnet18, resnet34, resnet50

STAGES = ("stem", "layer1", "layer2", "layer3", "layer4")
"""A ResNet's stages below its head, from the photo upwards; the order in which they freeze."""


_IMPLEMENTATION = ("foreach", "fused", "capturable")
"""Keys of an optimizer's group that say how it computes, not what."""


def build_network(
    n_classes: int, *, architecture: str = "resnet50", hidden_layers: tuple[int, ...] = (), dropout: float = 0.0
) -> ResNet:
    """Build a ResNet with random weights, from (B, 3, S, S) normalised photos to (B, n_classes) logits.

    The architecture is one of `model.architecture`. The head, under `fc`, is (Linear, ReLU) for each hidden layer,
    Dropout where there is some, Linear. With neither it is one plain Linear, so its keys are torchvision's own,
    `fc.weight` and `fc.bias`.

    Source: He et al., "Deep Residual Learning for Image Recognition", 2015, in torchvision's variant v1.5.
    """
    builders = {"resnet10": resnet10, "resnet18": resnet18, "resnet34": resnet34, "resnet50": resnet50}
    network = builders[architecture](weights=None)
    width: int = network.fc.in_features
    layers: list[nn.Module] = []
    for hidden_width in hidden_layers:
        layers += [nn.Linear(width, hidden_width), nn.ReLU()]
        width = hidden_width
    if dropout > 0:
        layers.append(nn.Dropout(dropout))
    layers.append(nn.Linear(width, n_classes))
    network.fc = layers[0] if len(layers) == 1 else nn.Sequential(*layers)
    return network


def empty_network(
    n_classes: int, *, architecture: str = "resnet50", hidden_layers: tuple[int, ...] = (), dropout: float = 0.0
) -> ResNet:
    """Build the network of `build_network` without memory, on torch's meta device.

    To be filled from a state dict, by `assign=True` or after `to_empty`. It draws none of the caller's random numbers,
    and saves the fifth of a second that drawing takes.
    """
    with torch.device("meta"), _NothingDrawn():
        return build_network(n_classes, architecture=architecture, hidden_layers=hidden_layers, dropout=dropout)


class _NothingDrawn(TorchFunctionMode):
    """Leaves out torch's normal numbers: on the meta device, drawing them loads torch's compiler."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0] if func is Tensor.normal_ else func(*args, **(kwargs or {}))


def stage_modules(network: ResNet) -> dict[str, list[nn.Module]]:
    """Return the modules of every stage, the head not among them."""
    modules: dict[str, list[nn.Module]] = {"stem": [network.conv1, network.bn1]}
    modules.update((stage, [getattr(network, stage)]) for stage in STAGES[1:])
    return modules


def freeze_stages(network: ResNet, n: int) -> None:
    """Freeze the first `n` stages, 0 to 5, so that only those above and the head receive gradients.

    Statistics of batch norm are no parameters; `set_training_mode` keeps those of frozen stages still.
    """
    network.requires_grad_(True)
    for module in first_stages(network, n):
        module.requires_grad_(False)


def set_training_mode(network: ResNet, frozen_stages: int) -> None:
    """Put the network in training mode and its first `frozen_stages` stages in evaluation mode.

    Call it before every epoch: `network.train()` alone lets the statistics of frozen batch norms move.
    """
    network.train()
    for module in first_stages(network, frozen_stages):
        module.eval()


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Put every module in evaluation mode, and back in the mode it had when the block ends."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def parameter_groups(
    network: ResNet,
    *,
    frozen_stages: int,
    learning_rate: float,
    head_factor: float,
    stage_decay: float,
    weight_decay: float,
) -> list[dict[str, Any]]:
    """Sort the parameters of a network that ever train into optimizer groups, by stage and by kind.

    Args:
        network: Not wrapped.
        frozen_stages: How many stages are frozen at the end of training. Stages that are freed on the way have
            groups from the start; an optimizer passes over parameters without a gradient.
        learning_rate: That of layer4.
        head_factor: The head's learning rate over that of layer4.
        stage_decay: Each stage's learning rate over that of the stage above it.
        weight_decay: For the weights of convolutions and dense layers; biases and norms have none.

    Returns:
        Groups `{"name", "params", "lr", "weight_decay"}`, from the lowest stage to the head, named such as `layer4`
        and `layer4.no_decay`. No group is empty.
    """
    modules = stage_modules(network)
    top = len(STAGES) - 1
    rates = {stage: learning_rate * stage_decay ** (top - depth) for depth, stage in enumerate(STAGES)}
    trained = [(stage, modules[stage], rates[stage]) for stage in STAGES[frozen_stages:]]
    trained.append(("head", [network.fc], learning_rate * head_factor))
    groups: list[dict[str, Any]] = []
    for name, owners, rate in trained:
        parameters = [parameter for module in owners for parameter in module.parameters()]
        for suffix, decay, wanted in (("", weight_decay, True), (".no_decay", 0.0, False)):
            # Biases and the scales of norms are vectors, weights have two dimensions or more.
            chosen = [parameter for parameter in parameters if (parameter.ndim > 1) == wanted]
            groups.append({"name": name + suffix, "params": chosen, "lr": rate, "weight_decay": decay})
    return groups


def restore_optimizer(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Give an optimizer the `state_dict()` of another one over the same parameters, learning rates included.

    It is taken over, not copied; that of another kind of optimizer or of other parameters is a `CheckpointError`.
    """
    groups = optimizer.state_dict()["param_groups"]
    if _outline(groups) != _outline(state["param_groups"]):
        names, stored_names = ([group.get("name") for group in found] for found in (groups, state["param_groups"]))
        raise CheckpointError(
            f"optimizer state: it was stored by another optimizer or for other parameter groups ({stored_names}, here "
            f"{names}); resume with the config of the run"
        )
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, moments in state["state"].items():
        for name, value in moments.items():
            if isinstance(value, Tensor) and value.ndim and value.shape != parameters[index].shape:
                raise CheckpointError(
                    f"optimizer state state.{index}.{name}: shape {tuple(value.shape)} for a parameter of "
                    f"{tuple(parameters[index].shape)}; it belongs to another architecture, resume with the config of "
                    "the run"
                )
    # Which of torch's implementations steps is the machine's to say, not that of the one that stored the state.
    made_here = [{name: group[name] for name in _IMPLEMENTATION if name in group} for group in groups]
    taken_over = [{**stored, **here} for stored, here in zip(state["param_groups"], made_here, strict=True)]
    # The moments come in the memory format they had, their parameters'; in another one every step would be slow.
    optimizer.load_state_dict({**state, "param_groups": taken_over})


def _outline(groups: list[dict[str, Any]]) -> list[tuple[Any, int, frozenset[str]]]:
    return [(group.get("name"), len(group["params"]), frozenset(group) - {"initial_lr"}) for group in groups]


def first_stages(network: ResNet, n: int) -> list[nn.Module]:
    """List the modules of the first `n` stages, 0 to 5."""
    if not 0 <= n <= len(STAGES):
        raise ValueError(f"{n} frozen stages: the network has 0 to {len(STAGES)} to freeze")
    modules = stage_modules(network)
    return [module for stage in STAGES[:n] for module in modules[stage]]
