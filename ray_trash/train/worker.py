"""This process among the workers of a run, and how they agree."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
import torch.distributed as dist

from ray_trash.cluster.carry import Carried, carry
from ray_trash.errors import StorageError

Value = TypeVar("Value")


@dataclass(frozen=True)
class Worker:
    """This process: `rank` of `world` workers, `local_rank` of `local_world` on its machine; it computes in `dtype`."""

    rank: int
    world: int
    device: torch.device
    dtype: torch.dtype
    local_rank: int = 0
    local_world: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this worker is the one that writes and speaks for all."""
        return self.rank == 0

    def autocast(self) -> torch.autocast:
        """Compute in the chosen format inside the block."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

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

    def from_first(self, value: Value) -> Value:
        """Return the first worker's value on all of them."""
        if self.world == 1:
            return value
        holder = [value]
        dist.broadcast_object_list(holder, src=0, device=self.device)
        return holder[0]

    def on_first(self, work: Callable[[], Value]) -> Value:
        """Do something on the first worker alone; all return its result, or raise its error of ours."""
        nothing: Carried[Value] = Carried(None)
        return self.from_first(carry(work) if self.is_first else nothing).value()

    def on_all(self, work: Callable[[], Value], *, failed: str) -> Value:
        """Do something on every worker; where one meets an error of ours, all raise one, at least that it `failed`."""
        outcome = carry(work)
        if self.any_of(outcome.error is not None) and outcome.error is None:
            raise StorageError(f"another worker {failed}")
        return outcome.value()
