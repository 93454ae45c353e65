"""Arrays on their way to a GPU and back, for which this process does not wait; on a CPU they are there already."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def to_device(values: NDArray[Any] | Tensor, device: torch.device) -> Tensor:
    """Copy values to a device in the order of its work, without waiting; on a CPU they are shared, not copied."""
    tensor = values if isinstance(values, Tensor) else torch.from_numpy(values)
    # Of memory that may be swapped out a copy cannot be made beside other work.
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


def to_host(tensor: Tensor) -> Callable[[], NDArray[Any]]:
    """Begin to copy a tensor to this process; what is returned waits for the copy, and gives it."""
    if tensor.device.type != "cuda":
        return tensor.numpy
    host = torch.empty_like(tensor, device="cpu", pin_memory=True)
    host.copy_(tensor, non_blocking=True)
    # Without `blocking` a thread that waits would keep a core busy.
    arrived = torch.cuda.Event(blocking=True)
    arrived.record(torch.cuda.current_stream(tensor.device))

    def wait() -> NDArray[Any]:
        arrived.synchronize()
        return np.asarray(host)

    return wait


class Uploads:
    """Copies to a device on a stream of their own, so that a large one is made while the device computes."""

    def __init__(self, device: torch.device) -> None:
        """Copy to that device."""
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def __call__(self, values: NDArray[Any] | Tensor) -> Tensor:
        """Begin to copy values; what is computed with them from now on begins once they are there."""
        if self._stream is None:
            return to_device(values, self._device)
        with torch.cuda.stream(self._stream):
            there = to_device(values, self._device)
        computing = torch.cuda.current_stream(self._device)
        computing.wait_stream(self._stream)
        # Its memory belongs to the other stream, which would give it away while this one still reads.
        there.record_stream(computing)
        return there
