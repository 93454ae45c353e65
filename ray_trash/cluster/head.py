"""The head of a cluster: whether it listens, and what becomes of a command whose head has gone."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ray_trash.cluster.way_on import way_on
from ray_trash.errors import ClusterError

LISTEN_TIMEOUT_S = 10.0
"""How long a head may take to accept a connection: several round trips of any network, lost packets included."""
LOOK_EVERY_S = 5.0
LOST_AFTER_LOOKS = 9
"""In vain, one after the other: a little less than the minute after which Ray ends a process that it finds it in,
without a word (`RAY_gcs_rpc_server_reconnect_timeout_s`)."""
END_TIMEOUT_S = 15.0
"""How long the command may take to write down that it was ended."""
_LOST: list[ClusterError] = []


def require_listener(address: str) -> None:
    """Connect once to HOST:PORT: an `OSError` where nobody listens, a `ValueError` where it is no address."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=LISTEN_TIMEOUT_S).close()


def lost_head() -> ClusterError | None:
    """Return what to say where a signal is this process's own, because the cluster's head has gone."""
    return _LOST[0] if _LOST else None


@contextmanager
def watching_head(address: str) -> Iterator[None]:
    """Send this process SIGTERM when the head has gone from its address inside the block: Ray may wait for ever.

    Does nothing where SIGTERM would end the process without a word, as in a notebook.
    """
    over = threading.Event()
    if callable(signal.getsignal(signal.SIGTERM)):
        threading.Thread(target=_watch, args=(address, over), name="head", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _watch(address: str, over: threading.Event) -> None:
    # Looks are counted, not seconds: a process that was stopped for a while has not looked.
    in_vain = 0
    while not over.wait(LOOK_EVERY_S):
        try:
            require_listener(address)
            in_vain = 0
        except OSError:
            in_vain += 1
        if in_vain < LOST_AFTER_LOOKS:
            continue
        _LOST.append(ClusterError(f"the cluster's head at {address} has gone; start it again. {way_on()}".rstrip()))
        os.kill(os.getpid(), signal.SIGTERM)
        if not over.wait(END_TIMEOUT_S):
            sys.stderr.write(f"error: {_LOST[0]}\n")
            os._exit(ClusterError.exit_code)
        return
