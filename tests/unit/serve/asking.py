"""Requests to a gateway in this process."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from ray_trash.config import ServeConfig
from ray_trash.serve.gateway import Gateway
from ray_trash.serve.key import Keys
from tests.unit.serve.backends import FakeBackend

JPEG = {"content-type": "image/jpeg"}


def talk(
    backend: FakeBackend,
    conversation: Callable[[httpx.AsyncClient], Awaitable[Any]],
    *,
    api_key: str | None = None,
    operator_key: str | None = None,
    peer: str = "127.0.0.1",
    base_url: str = "http://127.0.0.1:8000",
    **settings: Any,
) -> Any:
    """Have a client talk to a gateway with these settings."""

    async def run() -> Any:
        application = Gateway(backend, ServeConfig(**settings), keys=Keys(api_key, operator_key)).application()
        transport = httpx.ASGITransport(application, client=(peer, 1), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url=base_url) as client:
            return await conversation(client)

    return asyncio.run(run())


def post(backend: FakeBackend, *, api_key: str | None = None, settings: dict[str, Any] | None = None, **request: Any):
    async def one(client: httpx.AsyncClient) -> httpx.Response:
        return await client.post("/v1/score", **request)

    return talk(backend, one, api_key=api_key, **(settings or {}))


def files(*photos: bytes) -> list[tuple[str, tuple[str, bytes, str]]]:
    return [("images", (f"{n}.jpg", photo, "image/jpeg")) for n, photo in enumerate(photos)]


def encoded(*photos: bytes) -> dict[str, Any]:
    return {"images": [{"name": f"{n}", "data": base64.b64encode(photo).decode()} for n, photo in enumerate(photos)]}


def code_of(response: httpx.Response) -> str:
    """Return the reason of an answer that is none, which says nothing else."""
    body = response.json()
    assert set(body) == {"error", "request_id"}
    assert body["request_id"] == response.headers["x-request-id"]
    assert set(body["error"]) == {"code", "message"}
    return str(body["error"]["code"])
