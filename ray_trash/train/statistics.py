"""Batch-norm statistics of the workers, each of which saw its own photos only."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor

from ray_trash.model.network import first_stages
from ray_trash.model.resnet import ResNet
from ray_trash.train.worker import Worker


def average_statistics(network: ResNet, worker: Worker, *, frozen_stages: int) -> None:
    """Make the workers' batch-norm statistics equal: each saw its own photos only."""
    write_statistics(network, mean_statistics(network, worker, frozen_stages=frozen_stages))


@torch.no_grad()
def mean_statistics(network: ResNet, worker: Worker, *, frozen_stages: int) -> dict[str, Tensor]:
    """Return the mean over the workers of batch-norm statistics by name, the network as it is; nothing where alone.

    Those of frozen stages are equal already, and a mean of three equal numbers may be off by a bit.
    """
    if worker.world == 1:
        return {}
    frozen = {id(buffer) for module in first_stages(network, frozen_stages) for buffer in module.buffers()}
    own = {
        name: buffer
        for name, buffer in network.named_buffers()
        if buffer.is_floating_point() and id(buffer) not in frozen
    }
    if not own:
        return {}
    together = torch.cat([buffer.reshape(-1) for buffer in own.values()])
    dist.all_reduce(together)
    parts = (together / worker.world).split([buffer.numel() for buffer in own.values()])
    return {name: part.view_as(own[name]) for name, part in zip(own, parts, strict=True)}


@torch.no_grad()
def write_statistics(network: ResNet, statistics: Mapping[str, Tensor]) -> None:
    """Write what `mean_statistics` gave into a network of the same kind."""
    buffers = dict(network.named_buffers())
    for name, value in statistics.items():
        buffers[name].copy_(value)
