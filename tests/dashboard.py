"""A made-up Ray dashboard that takes jobs, for what real ones say once in a while."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

NO_AGENT = web.Response, 500, "No available agent to submit job, please try again later."
TAKEN = web.json_response, 200, {"job_id": "", "submission_id": "the-id"}


@dataclass
class Dashboard:
    """What it answers, each list from its first to its last, which stays.

    Attributes:
        chunks: What each connection that follows a job sends before it is cut; None lets no connection through.
    """

    version: dict[str, Any] = field(default_factory=lambda: {"version": "4", "ray_version": "2.60.0"})
    to_submit: list[Any] = field(default_factory=lambda: [TAKEN])
    details: list[dict[str, Any]] = field(default_factory=lambda: [{"status": "SUCCEEDED", "driver_exit_code": 0}])
    output: str = ""
    chunks: list[list[str] | None] = field(default_factory=lambda: [[]])
    refuses: tuple[int, str] | None = None
    on_follow: Callable[[], None] = lambda: None
    submitted: list[dict[str, Any]] = field(default_factory=list)
    packages: dict[str, bytes] = field(default_factory=dict)

    def routes(self) -> web.Application:
        app = web.Application(client_max_size=2**26, middlewares=[self._refuse])
        app.router.add_get("/api/version", self._version)
        app.router.add_get("/api/packages/gcs/{name}", self._find)
        app.router.add_put("/api/packages/gcs/{name}", self._keep)
        app.router.add_post("/api/jobs/", self._submit)
        app.router.add_get("/api/jobs/{id}", self._tell)
        app.router.add_get("/api/jobs/{id}/logs", self._output)
        app.router.add_get("/api/jobs/{id}/logs/tail", self._follow)
        return app

    @property
    def _refuse(self) -> Any:
        @web.middleware
        async def refuse(request: web.Request, handler: Any) -> web.StreamResponse:
            if self.refuses:
                return web.Response(status=self.refuses[0], text=self.refuses[1])
            answer: web.StreamResponse = await handler(request)
            return answer

        return refuse

    async def _version(self, request: web.Request) -> web.Response:
        return web.json_response(self.version)

    async def _output(self, request: web.Request) -> web.Response:
        return web.json_response({"logs": self.output})

    async def _find(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if request.match_info["name"] in self.packages else 404)

    async def _keep(self, request: web.Request) -> web.Response:
        self.packages[request.match_info["name"]] = await request.read()
        return web.Response()

    async def _submit(self, request: web.Request) -> web.Response:
        self.submitted.append(await request.json())
        answer, status, what = _next(self.to_submit)
        return answer(what, status=status) if answer is web.json_response else answer(text=what, status=status)

    async def _tell(self, request: web.Request) -> web.Response:
        told = {"type": "SUBMISSION", "entrypoint": "", **_next(self.details)}
        return web.json_response(told)

    async def _follow(self, request: web.Request) -> web.StreamResponse:
        chunks = _next(self.chunks)
        if chunks is None:
            return web.Response(status=502)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.on_follow()
        for chunk in chunks:
            await socket.send_str(chunk)
        if len(self.details) > 1:  # it goes on, so this is no end in good order
            assert request.transport is not None
            request.transport.close()
        return socket


def _next(answers: list[Any]) -> Any:
    return answers.pop(0) if len(answers) > 1 else answers[0]


@contextmanager
def answering(dashboard: Dashboard) -> Iterator[str]:
    """Answer as a dashboard inside the block. Yields the URL."""
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(dashboard.routes(), shutdown_timeout=0.1)
    loop.run_until_complete(runner.setup())
    site = web.TCPSite(runner, "127.0.0.1", 0)
    loop.run_until_complete(site.start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(runner.cleanup())
        loop.close()
