"""The gateway on a real socket, without Ray."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import uvicorn

from ray_trash.config import ServeConfig
from ray_trash.serve.contract import Backend
from ray_trash.serve.gateway import Gateway
from ray_trash.serve.key import Keys
from ray_trash.serve.server import server_of
from ray_trash.serve.sockets import bind


@contextlib.contextmanager
def live_gateway(backend: Backend, settings: ServeConfig) -> Iterator[tuple[str, int]]:
    """Run the gateway in a thread. Yields the address."""
    taken = bind("127.0.0.1", 0)
    server: uvicorn.Server = server_of(Gateway(backend, settings, keys=Keys()), settings)
    thread = threading.Thread(target=server.run, kwargs={"sockets": taken}, daemon=True)
    thread.start()
    deadline_s = time.monotonic() + 10
    while not server.started:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    try:
        yield taken[0].getsockname()
    finally:
        server.should_exit = True
        thread.join(timeout=10)
        assert not thread.is_alive()
