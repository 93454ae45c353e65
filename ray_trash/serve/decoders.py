"""The threads of a replica that decode photos, off its event loop and within its memory."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ray_trash.errors import ImageError
from ray_trash.image.container import read_container
from ray_trash.image.container.layout import Container
from ray_trash.image.decode import decoding_bytes

if TYPE_CHECKING:
    from ray_trash.model.predictor import Predictor

MIN_DECODING_THREADS = 4
"""A photo that is slow to decode keeps one of them for seconds; the others go on."""
MAX_DECODING_THREADS = 8
LARGE_PHOTO_BYTES = 128 << 20
"""A photo that takes more memory than this to decode waits until no other such one is being decoded; the largest takes
a gibibyte, or half more with transparency and 12 bits. A JPEG of 200 million pixels takes 25 MiB and waits for none."""

Prepared = NDArray[np.uint8] | tuple[str, str]
"""A photo as the network sees it, (S, S, 3), or why it cannot be used: a reason code and a sentence."""


class Decoders:
    """Threads for the photos of all requests."""

    def __init__(self) -> None:
        """Start none yet."""
        # Of one request as many as can run at once: more get in each other's way, and leave others no thread.
        self._at_once = min(MAX_DECODING_THREADS, os.cpu_count() or 1)
        self._threads = ThreadPoolExecutor(max(MIN_DECODING_THREADS, self._at_once), thread_name_prefix="decode")
        self._large = ThreadPoolExecutor(1, thread_name_prefix="decode-large")

    async def prepare(self, predictor: Predictor, photos: Sequence[bytes]) -> list[Prepared]:
        """Decode encoded photos, in order."""
        # Each thread takes the next photo when it is done with one: an errand for every photo costs more than to
        # decode a small one.
        prepared: list[Prepared] = [("", "")] * len(photos)
        waiting, large = deque(enumerate(photos)), list[tuple[int, Container]]()
        short_side_px = predictor.document.preprocessing.stored_short_side_px

        def work() -> None:
            while True:
                try:
                    n, encoded = waiting.popleft()
                except IndexError:
                    return
                try:
                    photo = read_container(encoded)
                except ImageError as error:
                    prepared[n] = error.code, str(error)
                    continue
                if decoding_bytes(photo, short_side_px) > LARGE_PHOTO_BYTES:
                    large.append((n, photo))
                else:
                    decode(n, photo)

        def decode(n: int, photo: Container) -> None:
            try:
                prepared[n] = predictor.prepare(photo)
            except ImageError as error:
                prepared[n] = error.code, str(error)

        loop = asyncio.get_running_loop()
        try:
            threads = min(len(photos), self._at_once)
            await asyncio.gather(*(loop.run_in_executor(self._threads, work) for _ in range(threads)))
            await asyncio.gather(*(loop.run_in_executor(self._large, decode, *photo) for photo in large))
        finally:
            # What nobody waits for any more is not decoded.
            waiting.clear()
        return prepared
