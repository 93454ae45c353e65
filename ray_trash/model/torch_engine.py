"""Answers computed by torch: as they come on a CPU, by recorded CUDA graphs on a GPU.

A GPU is given the next photos while it computes: threads that call at the same time wait for their own answers alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ray_trash.image.preprocess import Preprocessing
from ray_trash.model.answering import probabilities_of
from ray_trash.model.transfer import Uploads, to_host

_LARGEST_GRAPH = 64
"""Photos in the largest graph: beyond it the launches of kernels no longer matter."""
_WARM_UP_RUNS = 3
"""Runs before a recording. Source: torch's notes on CUDA graphs, which let cuDNN choose its kernels first."""


class TorchEngine:
    """A network in evaluation mode, on its device."""

    def __init__(
        self, network: nn.Module, preprocessing: Preprocessing, *, views: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        """Take a network that is on the device already."""

        def forward(photos: Tensor) -> Tensor:
            return probabilities_of(network, photos, preprocessing, views=views, dtype=dtype)

        # A recorded graph has one input, and threads that compute side by side on a CPU wait for one another.
        self._lock = threading.Lock()
        self._forward: Callable[[Tensor], Tensor] = forward
        self._upload = Uploads(device)
        if device.type == "cuda":
            self._forward = _CudaGraphs(forward, preprocessing.size_px, device)

    def probabilities(self, photos: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (B, C) float32 for (B, S, S, 3) uint8; every row adds up to 1."""
        with self._lock:
            answers = to_host(self._forward(self._upload(np.ascontiguousarray(photos))))
        return answers()


class _CudaGraphs:
    """The forward pass, recorded once for each power of two and replayed: one launch in place of hundreds."""

    def __init__(self, forward: Callable[[Tensor], Tensor], size_px: int, device: torch.device) -> None:
        self._forward, self._size_px, self._device = forward, size_px, device
        self._recorded: dict[int, tuple[torch.cuda.CUDAGraph, Tensor, Tensor]] = {}

    def __call__(self, photos: Tensor) -> Tensor:
        n = len(photos)
        size = 1 << (n - 1).bit_length()
        if size > _LARGEST_GRAPH:
            return self._forward(photos)
        if size not in self._recorded:
            self._recorded[size] = self._record(size)
        graph, given, said = self._recorded[size]
        given[:n].copy_(photos)
        graph.replay()
        return said[:n].clone()

    def _record(self, size: int) -> tuple[torch.cuda.CUDAGraph, Tensor, Tensor]:
        given = torch.zeros((size, self._size_px, self._size_px, 3), dtype=torch.uint8, device=self._device)
        stream = torch.cuda.Stream(self._device)
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP_RUNS):
                self._forward(given)
        torch.cuda.current_stream(self._device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        # What other threads do with the GPU meanwhile is not recorded, and does not end the recording.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            said = self._forward(given)
        return graph, given, said
