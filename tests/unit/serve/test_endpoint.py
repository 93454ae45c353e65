"""A signal to stop is heard while the endpoint runs, and kills it at no instant after that."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from ray_trash.cluster.ending import stop_signals
from ray_trash.serve.endpoint import set_by_signals


@pytest.fixture(autouse=True)
def handlers_are_put_back() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in stop_signals()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_sets_the_event_and_one_that_comes_later_never_finds_the_default(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, taken = signal.signal, list[Any]()

    def noted(number: int, handler: Any) -> Any:
        taken.append(handler)
        return real(number, handler)

    monkeypatch.setattr(signal, "signal", noted)

    async def wait_for_it() -> None:
        stop = asyncio.Event()
        with set_by_signals(stop):
            asyncio.get_running_loop().call_later(0.05, os.kill, os.getpid(), number)
            await asyncio.wait_for(stop.wait(), timeout=10)
        os.kill(os.getpid(), number)

    asyncio.run(wait_for_it())
    assert signal.SIG_DFL not in taken
    assert signal.getsignal(number) == signal.SIG_IGN
