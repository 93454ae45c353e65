"""This process among the workers of a run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist


@dataclass(frozen=True)
class Worker:
    """This process among the workers.

    Attributes:
        rank: In 0..world-1.
        world: How many workers there are.
        device: Where it computes.
        dtype: Format of the network's arithmetic.
        local_rank: Among the workers of this machine, in 0..local_world-1.
        local_world: How many workers this machine has.
    """

    rank: int
    world: int
    device: torch.device
    dtype: torch.dtype
    local_rank: int = 0
    local_world: int = 1

    def add_up(self, values: np.ndarray) -> np.ndarray:
        """Add a float64 vector over all workers."""
        if self.world == 1:
            return values
        total = torch.from_numpy(values.copy()).to(self.device)
        dist.all_reduce(total)
        return total.cpu().numpy()

    def any_of(self, flag: bool) -> bool:
        """Say whether a flag is set on any worker; all of them wait here for the last."""
        return bool(self.add_up(np.array([float(flag)]))[0])

    def autocast(self) -> torch.autocast:
        """Compute in the chosen format inside the block."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)
