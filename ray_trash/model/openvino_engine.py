"""Answers computed by OpenVINO, which is faster than torch on CPUs.

Each view of a photo is an inference of its own, and as many run at once as there are threads: no thread waits for
another, and a photo's answer does not depend on its batch. Calls from several threads share one queue of inferences.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ray_trash.image.symmetry import symmetric_views
from ray_trash.model.openvino_network import import_openvino

_PHOTO_TIMEOUT_S = 60.0
"""How long one photo may take once it is its turn: a thousand times what it does."""
_WAITING_PER_THREAD = 2
"""Inferences queued for each thread: while one is computed, the next waits. With one, a thread that is done would idle
until Python, busy with decoding, gives it another."""
_PRECISION = {torch.float32: "f32", torch.bfloat16: "bf16", torch.int8: "f32"}
"""OpenVINO's hint, which of an int8 network is for what little of it is not int8."""


class OpenVinoEngine:
    """A network compiled for this machine's CPU."""

    def __init__(self, converted: Any, *, views: int, dtype: torch.dtype, n_threads: int) -> None:
        """Compile what `model.openvino_network` gives."""
        settings = {
            "INFERENCE_PRECISION_HINT": _PRECISION[dtype],
            "INFERENCE_NUM_THREADS": n_threads,
            "NUM_STREAMS": n_threads,
            # Each process would pin its first thread to the first CPU: two replicas were half as fast as one.
            "ENABLE_CPU_PINNING": False,
        }
        openvino = import_openvino()
        compiled = openvino.Core().compile_model(converted, "CPU", settings)
        self._queue = openvino.AsyncInferQueue(compiled, _WAITING_PER_THREAD * n_threads)
        self._queue.set_callback(_Call.take)
        self._lock = threading.Lock()
        self._views = views

    def probabilities(self, photos: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (B, C) float32 for (B, S, S, 3) uint8; every row adds up to 1."""
        call = _Call(len(photos) * self._views)
        with self._lock:
            for number, photo in enumerate(photos):
                for view, square in enumerate(symmetric_views(photo, self._views)):
                    square = np.ascontiguousarray(square[np.newaxis])
                    self._queue.start_async({0: square}, (call, number * self._views + view))
        # In float64, so that the mean of rows that add up to 1 adds up to 1.
        said = np.stack(call.answers()).astype(np.float64)
        said = said.reshape(len(photos), self._views, -1).mean(axis=1)
        return np.asarray(said / said.sum(axis=1, keepdims=True), np.float32)


class _Call:
    """What one call waits for."""

    def __init__(self, n: int) -> None:
        self._answers: dict[int, NDArray[np.float32]] = {}
        self._n = n
        self._taken = threading.Semaphore(0)

    @staticmethod
    def take(request: Any, place: tuple[_Call, int]) -> None:
        """Keep an answer; OpenVINO calls this from its threads."""
        call, number = place
        call._answers[number] = request.get_output_tensor(0).data[0].copy()
        call._taken.release()

    def answers(self) -> list[NDArray[np.float32]]:
        """Wait for all answers and return them in order."""
        for _ in range(self._n):
            # An inference that fails calls nobody.
            if not self._taken.acquire(timeout=_PHOTO_TIMEOUT_S):
                raise RuntimeError(f"OpenVINO did not answer a photo within {_PHOTO_TIMEOUT_S:g} s")
        return [self._answers[number] for number in range(self._n)]
