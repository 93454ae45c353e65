"""Two processes that add numbers up, as the workers of a training do."""

from __future__ import annotations

import socket
from datetime import timedelta
from typing import Any

import ray
import torch
import torch.distributed as dist

from ray_trash.cluster.interface import bind_this_process
from ray_trash.doctor.finding import Finding
from ray_trash.errors import ClusterError

PAIR_TIMEOUT_S = 45.0
"""How long two processes may take to start, to meet and to add up."""
_MEET_TIMEOUT_S = 20.0
_NUMBERS = 1 << 18


def check_pair() -> Finding:
    """Start two processes, on two machines where there are some, and have them add up a MiB; needs Ray."""
    member: Any = ray.remote(_Member).options(num_cpus=0, scheduling_strategy="SPREAD")
    members = [member.remote() for _ in range(2)]
    try:
        address, port = _get(members[0].meeting_point.remote())
        sums = _get_all([one.add_up.remote(rank, address, port) for rank, one in enumerate(members)])
    finally:
        for one in members:
            ray.kill(one)
    wrong = [total for total, _ in sums if total != 3.0]
    if wrong:
        return Finding("workers", "problem", f"1 + 2 = {wrong[0]:g} over two processes", "look at the network's errors")
    machines = sorted({machine for _, machine in sums})
    where = f" on {' and '.join(machines)}" if len(machines) > 1 else ""
    return Finding("workers", "ok", f"two processes{where} add up over gloo")


class _Member:
    def meeting_point(self) -> tuple[str, int]:
        address, is_own = bind_this_process()
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.create_server((address if is_own else "", 0), family=family) as free:
            return address, free.getsockname()[1]

    def add_up(self, rank: int, address: str, port: int) -> tuple[float, str]:
        bind_this_process()
        host = f"[{address}]" if ":" in address else address
        limit = timedelta(seconds=_MEET_TIMEOUT_S)
        dist.init_process_group("gloo", init_method=f"tcp://{host}:{port}", rank=rank, world_size=2, timeout=limit)
        try:
            numbers = torch.full((_NUMBERS,), float(rank + 1))
            dist.all_reduce(numbers)
        finally:
            dist.destroy_process_group()
        return float(numbers.max()), socket.gethostname()


def _get(reference: Any) -> Any:
    return _get_all([reference])[0]


def _get_all(references: list[Any]) -> list[Any]:
    try:
        return ray.get(references, timeout=PAIR_TIMEOUT_S)
    except ray.exceptions.GetTimeoutError as error:
        raise ClusterError(f"two processes do not start or meet within {PAIR_TIMEOUT_S:g} s") from error
    except ray.exceptions.RayTaskError as error:
        raise ClusterError(f"two processes do not meet: {str(error.cause).splitlines()[0]}") from error
