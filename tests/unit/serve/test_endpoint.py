"""The `serve` command's endpoint: how it is stopped, and what it keeps while it runs."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import weakref
from collections.abc import Coroutine, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ray_trash.cluster.ending import stop_signals
from ray_trash.config import ServeConfig
from ray_trash.model.checkpoint import Checkpoint, open_checkpoint
from ray_trash.serve import endpoint
from ray_trash.serve.endpoint import run_endpoint, set_by_signals
from ray_trash.serve.key import Keys
from ray_trash.storage import Storage
from tests.models import write_model


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


def test_of_the_first_checkpoint_only_the_fleet_keeps_the_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path / "checkpoint")
    watched, looks = Storage.at(tmp_path / "checkpoint"), list[bytes]()
    checkpoint = open_checkpoint(watched)
    marker, kept = checkpoint.marker, weakref.ref(checkpoint)

    async def start(fleet: Any, checkpoint: Checkpoint, settings: Any, **_: Any) -> Any:
        return SimpleNamespace(id=checkpoint.document.id, engine="torch")

    async def watch(place: Storage, seen: bytes, *_: Any, **__: Any) -> None:
        looks.append(seen)
        await asyncio.Event().wait()

    monkeypatch.setattr(endpoint, "_start", start)
    monkeypatch.setattr(endpoint, "watch", watch)

    async def run_until_it_is_gone(running: Coroutine[Any, Any, None]) -> None:
        serving = asyncio.ensure_future(running)
        async with asyncio.timeout(10):
            while kept() is not None or not looks:
                await asyncio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
        await serving

    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = ServeConfig(drain_s=0)
        running = run_endpoint(checkpoint, settings, [taken], watched=watched, shadow=None, keys=Keys())
        del checkpoint
        asyncio.run(run_until_it_is_gone(running))
    assert looks == [marker]
