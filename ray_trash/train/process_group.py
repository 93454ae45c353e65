"""The process group of a run's workers: each on the interface of its Ray node, none out of the others' reach."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from ray.train.torch import TorchConfig
from ray.train.torch.config import _TorchBackend

from ray_trash.cluster.interface import bind_this_process
from ray_trash.cluster.reach import LISTENING_S, Listener, listen, try_all
from ray_trash.cluster.waiting import fetch_all
from ray_trash.errors import ClusterError

COLLECTIVE_TIMEOUT_S = 600
"""How long workers wait for one another in a step: for one that writes a checkpoint, or whose machine has gone."""
Result = TypeVar("Result")


class ProcessGroup(TorchConfig):
    """What `TorchTrainer` takes for its process group."""

    def __init__(self) -> None:
        """Take gloo on CPUs and NCCL on GPUs."""
        super().__init__(timeout_s=COLLECTIVE_TIMEOUT_S)

    @property
    def backend_cls(self) -> type[_Backend]:
        """Return what Ray Train starts and ends the group by."""
        return _Backend


class _Backend(_TorchBackend):
    def on_start(self, worker_group: Any, backend_config: Any) -> None:
        bound = _on_all(worker_group, bind_this_process, "interfaces")
        if len(set(bound)) > 1:
            listening: list[Listener] = _on_all(worker_group, listen, "addresses")
            for gaps in _on_all(worker_group, partial(try_all, listening), "connections to one another"):
                if gaps:
                    raise ClusterError(gaps[0].line())
        super().on_start(worker_group, backend_config)


def _on_all(worker_group: Any, function: Callable[[], Result], what: str) -> list[Result]:
    references: list[Any] = worker_group.execute_async(function)
    return fetch_all(references, what=f"the workers' {what}", timeout_s=LISTENING_S)
