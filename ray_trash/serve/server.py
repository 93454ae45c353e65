"""A socket and the HTTP server on it. Knows no Ray."""

from __future__ import annotations

import contextlib
import socket

import uvicorn

from ray_trash.config import ServeConfig
from ray_trash.errors import ConfigError
from ray_trash.serve.gateway import Gateway
from ray_trash.serve.protocol import timed_protocol

DRAIN_S = 8.0
"""How long requests that are being answered may take once the endpoint is told to stop; with the end of Ray's
processes it stays within 15 s."""
KEEP_ALIVE_S = 15
"""How long a connection may idle between two requests."""
_MAX_HEADER_BYTES = 32 * 1024


def bind(host: str, port: int) -> socket.socket:
    """Take an address, without listening yet.

    Raises:
        ConfigError: It is taken, or not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named, since asyncio sends small answers without delay only where it knows that the protocol is TCP.
    taken = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        taken.bind((host, port))
    except OSError as error:
        taken.close()
        raise ConfigError(f"{host}:{port}: cannot listen there: {error.strerror}; choose another --port") from error
    return taken


def server_of(gateway: Gateway, settings: ServeConfig) -> uvicorn.Server:
    """Put a gateway on a server that leaves signals to whoever runs it."""
    server = uvicorn.Server(
        uvicorn.Config(
            gateway.application(),
            http=timed_protocol(header_timeout_s=settings.header_timeout_s, body_timeout_s=settings.body_timeout_s),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=int(DRAIN_S),
            h11_max_incomplete_event_size=_MAX_HEADER_BYTES,
        )
    )
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]
    return server
