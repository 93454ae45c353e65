"""The HTTP application: routes, limits and answers. Knows who computes only as a `Backend`."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from ray_trash import __version__
from ray_trash.config import ServeConfig
from ray_trash.serve.admission import Admission, problem
from ray_trash.serve.contract import (
    AliveBody,
    Backend,
    ModelBody,
    ModelCard,
    ScoreBody,
    Scored,
    ServeError,
    UnusableBody,
    not_ready,
)
from ray_trash.serve.openapi import problems, request_body
from ray_trash.serve.pace import Pace
from ray_trash.serve.pages import page_routes
from ray_trash.serve.parsing import Photos, read_photos
from ray_trash.serve.telemetry import Telemetry

LATEST_SHARE = 0.5
"""A request is let in where it should be answered within so much of `serve.timeout_s`: the rest is for bad guesses."""
ROLL_BACK_HEADER = "x-ray-trash"
"""A header that no page of another origin can send: going back is for operators, not for whoever is visited."""
_logger = logging.getLogger(__name__)
_LOOPBACK = ("127.0.0.1", "::1")
_NOT_BASE64 = ("undecodable", "the data is not base64")


class Gateway:
    """Answers requests with what a backend computes.

    Attributes:
        draining: Whether no new work is wanted: `/readyz` says so, requests are still answered.
    """

    def __init__(self, backend: Backend, settings: ServeConfig, *, api_key: str | None) -> None:
        """Take a backend that need not be ready yet."""
        self.draining = False
        self._backend, self._settings, self._api_key = backend, settings, api_key
        self._telemetry = Telemetry()
        self._pace = Pace()

    def application(self) -> ASGIApp:
        """Build the ASGI application."""
        app = FastAPI(
            title="ray-trash", version=__version__, docs_url=None, redoc_url=None, routes=[*page_routes()], debug=False
        )
        app.add_exception_handler(ServeError, _answer_problem)
        app.add_exception_handler(HTTPException, _answer_http_problem)
        app.add_exception_handler(Exception, _answer_unforeseen)
        app.add_api_route(
            "/v1/score",
            self.score,
            methods=["POST"],
            response_model=ScoreBody,
            summary="Score photos",
            responses={422: {"model": UnusableBody}, **problems(400, 401, 408, 413, 415, 429, 503, 504)},
            openapi_extra={"requestBody": request_body(self._settings)},
        )
        app.add_api_route(
            "/v1/model",
            self.model,
            methods=["GET"],
            response_model=ModelBody,
            summary="Who answers",
            responses=problems(401, 503),
        )
        app.add_api_route(
            "/v1/model/rollback",
            self.roll_back,
            methods=["POST"],
            response_model=ModelBody,
            summary="Go back to the model before this one",
            responses=problems(401, 403, 408, 409, 413, 503, 504),
        )
        app.add_api_route("/healthz", self.alive, methods=["GET"], response_model=AliveBody, summary="Alive")
        app.add_api_route(
            "/readyz",
            self.ready,
            methods=["GET"],
            response_model=AliveBody,
            summary="Ready: a photo has been answered",
            responses=problems(503),
        )
        app.add_api_route(
            "/metrics",
            self.metrics,
            methods=["GET"],
            response_class=Response,
            summary="Counters for Prometheus",
            responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **problems(401)},
        )
        return Admission(
            app,
            self._settings,
            api_key=self._api_key,
            turned_away=lambda code: self._telemetry.turned_away.labels(code).inc(),
        )

    async def score(self, request: Request) -> Response:
        """Answer photos: multipart fields, one raw body, or JSON with base64."""
        started = time.monotonic()
        status = 500
        try:
            response = await self._score(request)
            status = response.status_code
            return response
        except ServeError as error:
            status = error.status
            raise
        finally:
            self._telemetry.requests.labels(str(status)).inc()
            self._telemetry.seconds.observe(time.monotonic() - started)

    async def _score(self, request: Request) -> Response:
        settings = self._settings
        photos = await read_photos(request, max_images=settings.max_batch_images)
        usable = [encoded for encoded in photos.encoded if encoded is not None]
        with self._in_work(len(photos.names)):
            scored = await self._until_hung_up(request, usable)
        self._telemetry.count(scored)
        results = _results(photos, scored)
        model = {"id": scored.model.id, "classes": list(scored.model.classes)}
        if photos.single and results[0]["status"] == "error":
            return JSONResponse({"model": model, "results": results, "error": results[0]["error"]}, 422)
        return JSONResponse({"model": model, "results": results})

    async def _until_hung_up(self, request: Request, encoded: list[bytes]) -> Scored:
        # The backend keeps the deadline; this is for clients that go away before it.
        scoring = asyncio.ensure_future(self._backend.score(encoded, timeout_s=self._settings.timeout_s))
        leaving = asyncio.ensure_future(_hung_up(request))
        try:
            await asyncio.wait((scoring, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not scoring.done():
                raise ServeError(499, "hung_up", "the client has gone")
            return scoring.result()
        finally:
            for task in (scoring, leaving):
                task.cancel()

    @contextmanager
    def _in_work(self, n: int) -> Iterator[None]:
        pace, settings = self._pace, self._settings
        too_many = pace.waiting + n > settings.max_waiting_photos
        # What would be answered too late keeps others waiting for nothing.
        late_s = pace.expected_s(n) - LATEST_SHARE * settings.timeout_s
        if too_many or late_s > 0:
            raise ServeError(
                503,
                "busy",
                f"{pace.waiting} photos are waiting; come again",
                retry_after_s=max(settings.retry_after_s, math.ceil(late_s)),
            )
        pace.begin(n)
        self._telemetry.in_flight.set(pace.waiting)
        answered = False
        try:
            yield
            answered = True
        finally:
            pace.end(n, answered=answered)
            self._telemetry.in_flight.set(pace.waiting)

    async def model(self) -> Response:
        """Say who answers, what a request may hold, and what became of the newest attempt to change the model."""
        return JSONResponse(await self._describe(await self._card()))

    async def roll_back(self, request: Request) -> Response:
        """Go back to the model before this one; without a key, only for clients on this machine."""
        if ROLL_BACK_HEADER not in request.headers:
            raise ServeError(403, "forbidden", f"send the header {ROLL_BACK_HEADER}")
        # A page whose own name was made to lead here is not on this machine, though its browser is.
        here = request.url.hostname in (*_LOOPBACK, "localhost")
        local = here and request.client is not None and request.client.host in _LOOPBACK
        if self._api_key is None and not local:
            raise ServeError(403, "forbidden", "without a key this is answered on the machine of the endpoint only")
        return JSONResponse(await self._describe(await self._backend.roll_back()))

    async def alive(self) -> Response:
        """Answer as long as this process does."""
        return JSONResponse({"status": "ok"})

    async def ready(self) -> Response:
        """Answer once a model has answered a photo, and no longer once this endpoint is told to stop."""
        if self.draining:
            raise ServeError(503, "stopping", "this endpoint is stopping")
        await self._card()
        return JSONResponse({"status": "ok"})

    async def metrics(self) -> Response:
        """Render counters as Prometheus reads them."""
        return Response(self._telemetry.text(), media_type="text/plain; version=0.0.4")

    async def _card(self) -> ModelCard:
        card = await self._backend.card()
        if card is None:
            raise not_ready(self._settings.retry_after_s)
        self._telemetry.show_model(card)
        return card

    async def _describe(self, card: ModelCard) -> dict[str, Any]:
        settings = self._settings
        return {
            **asdict(card),
            "limits": {
                "max_batch_images": settings.max_batch_images,
                "max_body_mib": settings.max_body_mib,
                "timeout_s": settings.timeout_s,
            },
            "swap": dict(await self._backend.swap_state()),
        }


def _results(photos: Photos, scored: Scored) -> list[dict[str, Any]]:
    classes, position = scored.model.classes, 0
    results: list[dict[str, Any]] = []
    for name, encoded in zip(photos.names, photos.encoded, strict=True):
        if encoded is None:
            code, message = _NOT_BASE64
            results.append({"name": name, "status": "error", "error": {"code": code, "message": message}})
            continue
        if position in scored.refused:
            code, message = scored.refused[position]
            results.append({"name": name, "status": "error", "error": {"code": code, "message": message}})
        else:
            row = scored.probabilities[position]
            results.append(
                {
                    "name": name,
                    "status": "ok",
                    "label": classes[int(row.argmax())],
                    "confidence": float(row.max()),
                    "abstained": bool(scored.abstained[position]),
                    "probabilities": dict(zip(classes, map(float, row), strict=True)),
                }
            )
        position += 1
    return results


async def _hung_up(request: Request) -> None:
    # The body has been read, so the next message is the client's leaving.
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _answer_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServeError)
    return problem(error)


async def _answer_http_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    codes = {404: "not_found", 405: "method_not_allowed"}
    answer = problem(ServeError(error.status_code, codes.get(error.status_code, "bad_request"), str(error.detail)))
    answer.headers.update(error.headers or {})
    return answer


async def _answer_unforeseen(request: Request, error: Exception) -> Response:
    _logger.error("%s %s: something unforeseen", request.method, request.url.path, exc_info=error)
    return problem(ServeError(500, "internal", "something went wrong here; the endpoint's log says what"))
