"""Photos are decoded by threads, for as long as somebody waits, and within the memory there is."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ray_trash.image.container.layout import Container
from ray_trash.serve.decoders import MAX_DECODING_THREADS, Decoders
from tests.encoded import blank_png_of, encode, smooth_photo

SMALL, LARGE = encode(smooth_photo(), "PNG"), blank_png_of(5000, 5000)


class Held:
    """Stands for a predictor that keeps photos of some width until it is told to go on."""

    document = SimpleNamespace(preprocessing=SimpleNamespace(stored_short_side_px=256))

    def __init__(self, width_px: int) -> None:
        self.width_px, self.begun, self.released = width_px, list[Container](), threading.Event()

    def prepare(self, photo: Container) -> np.ndarray:
        if photo.width_px == self.width_px:
            self.begun.append(photo)
            assert self.released.wait(20)
        return np.zeros((32, 32, 3), np.uint8)

    async def until_begun(self) -> None:
        while not self.begun:
            await asyncio.sleep(0.01)


async def cancelled(task: asyncio.Future[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_photos_that_nobody_waits_for_any_more_are_not_decoded() -> None:
    held: Any = Held(96)

    async def run() -> None:
        scoring = asyncio.ensure_future(Decoders().prepare(held, [SMALL] * 100))
        await held.until_begun()
        await cancelled(scoring)
        held.released.set()
        await asyncio.sleep(0.2)
        assert len(held.begun) <= MAX_DECODING_THREADS

    asyncio.run(run())


def test_of_photos_that_take_much_memory_one_is_decoded_at_a_time_and_small_ones_pass_by() -> None:
    held: Any = Held(5000)

    async def run() -> None:
        decoders = Decoders()
        scoring = [asyncio.ensure_future(decoders.prepare(held, [LARGE] * 4)) for _ in range(3)]
        await held.until_begun()
        for answers in await asyncio.gather(*(decoders.prepare(held, [SMALL, b"x", SMALL]) for _ in range(4))):
            assert [isinstance(answer, tuple) for answer in answers] == [False, True, False]
        assert len(held.begun) == 1
        await cancelled(scoring[2])
        held.released.set()
        await asyncio.gather(*scoring[:2])
        # Of the request that nobody waits for any more, at most the photo that was already being decoded.
        assert 8 <= len(held.begun) <= 9

    asyncio.run(run())
