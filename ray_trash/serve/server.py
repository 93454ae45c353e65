"""The HTTP server on the endpoint's sockets. Knows no Ray."""

from __future__ import annotations

import contextlib

import uvicorn

from ray_trash.config import ServeConfig
from ray_trash.serve.gateway import Gateway
from ray_trash.serve.protocol import timed_protocol

DRAIN_S = 8.0
"""How long requests that are being answered may take once the endpoint is told to stop; with the end of Ray's
processes it stays within 15 s."""
_MAX_HEADER_BYTES = 32 * 1024


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
            timeout_keep_alive=settings.keep_alive_s,
            timeout_graceful_shutdown=int(DRAIN_S),
            h11_max_incomplete_event_size=_MAX_HEADER_BYTES,
        )
    )
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]
    return server
