"""The HTTP application: routes, limits and answers. Knows who computes only as a `Backend`."""

from __future__ import annotations

import asyncio
import base64
import itertools
import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI, Request, Security
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp

from ray_trash import __version__
from ray_trash.config import ServeConfig
from ray_trash.serve import contract
from ray_trash.serve.access import AccessLog, this_visit
from ray_trash.serve.address import Addressed
from ray_trash.serve.admission import OPERATED, PROMOTE, PROTECTED, ROLL_BACK, Admission, json_answer, problem
from ray_trash.serve.backlog import Backlog
from ray_trash.serve.contract import ServeError, come_again, not_ready
from ray_trash.serve.key import Keys
from ray_trash.serve.log import tell
from ray_trash.serve.openapi import DESCRIPTION, parameters, problems, request_body
from ray_trash.serve.origins import Origins
from ray_trash.serve.pages import page_routes
from ray_trash.serve.parsing import Photos, read_photos
from ray_trash.serve.telemetry import Telemetry
from ray_trash.serve.trial import Trial

LATEST_SHARE = 0.5
"""A request is let in where it should be answered within so much of `serve.timeout_s`: the rest is for bad guesses."""
MARKDOWN = "text/markdown"
_NOT_BASE64 = ("undecodable", "the data is not base64")


class Gateway:
    """Answers requests with what a backend computes."""

    def __init__(self, backend: contract.Backend, settings: ServeConfig, *, keys: Keys) -> None:
        """Take a backend that need not be ready yet."""
        self.draining = False
        """Whether no new work is wanted: `/readyz` says so, requests are still answered."""
        self._backend, self._settings, self._keys = backend, settings, keys
        self._telemetry = Telemetry()
        self._backlog = Backlog()
        self._trial = Trial(backend, settings, self._telemetry.shadow, self._backlog)
        self._admission: Admission | None = None

    def refuse_unfinished(self) -> None:
        """Refuse requests whose bodies are still arriving; those that are whole are answered."""
        if self._admission is not None:
            self._admission.refuse_unfinished()

    def application(self, *, sends_request_id: bool = True) -> ASGIApp:
        """Build the ASGI application; Ray's own proxy sends the ids of requests itself."""
        about: dict[str, Any] = {"title": "ray-trash", "version": __version__, "description": DESCRIPTION}
        app = FastAPI(**about, docs_url=None, redoc_url=None, redirect_slashes=False, routes=[*page_routes()])
        for kind in (ServeError, HTTPException, Exception):
            app.add_exception_handler(kind, _answer_error)
        # Only told here, for the description: `Admission` looks at the key.
        key = [Security(HTTPBearer(auto_error=False))]

        def route(where: str, handler: Any, summary: str, responses: Any = None, **more: Any) -> None:
            method, path = where.split()
            asked_for = path in OPERATED or (self._keys.client is not None and path.startswith(PROTECTED))
            dependencies = key if asked_for else []
            options = {"summary": summary, "responses": responses, "dependencies": dependencies, **more}
            app.add_api_route(path, handler, methods=[method], **options)

        route(
            "POST /v1/score",
            self.post_score,
            "Score photos",
            problems(400, 401, 408, 413, 415, 429, 503, 504) | {422: {"model": contract.UnusableBody}},
            response_model=contract.ScoreBody,
            openapi_extra={"requestBody": request_body(self._settings), "parameters": parameters(self._settings)},
        )
        route("GET /v1/model", self.get_model, "Who answers", problems(401, 503))
        markdown = {200: {"content": {MARKDOWN: {"schema": {"type": "string"}}}}, **problems(401, 503)}
        route("GET /v1/model/card", self.get_model_card, "The model's card", markdown, response_class=Response)
        statuses = problems(401, 408, 409, 413, 503, 504)
        route(f"POST {ROLL_BACK}", self.post_rollback, "Go back to the model before this one", statuses)
        route(f"POST {PROMOTE}", self.post_promote, "Let the model on trial answer", statuses)
        route("GET /healthz", self.get_alive, "Alive")
        route("GET /readyz", self.get_ready, "Ready: a photo has been answered", problems(503))
        counters = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **problems(401)}
        route("GET /metrics", self.get_metrics, "Counters for Prometheus", counters, response_class=Response)
        self._admission = Admission(
            app,
            self._settings,
            keys=self._keys,
            turned_away=lambda code: self._telemetry.turned_away.labels(code).inc(),
        )
        # Outermost first: what is refused for want of a key is read by pages of other origins, too.
        addressed = Addressed(Origins(self._admission, self._settings.cors_origins), self._settings.root_path)
        return AccessLog(addressed, sends_id=sends_request_id)

    async def post_score(self, request: Request) -> Response:
        """Answer photos: multipart fields, one raw body, or JSON with base64."""
        started, status = time.monotonic(), 500
        try:
            body = await self._answer(request)
            status = 422 if isinstance(body, contract.UnusableBody) else 200
        except ServeError as error:
            status = error.status
            raise
        finally:
            self._telemetry.requests.labels(str(status)).inc()
            self._telemetry.seconds.observe(time.monotonic() - started)
        return json_answer(body, status)

    async def _answer(self, request: Request) -> contract.ScoreBody:
        explain = self._wants_maps(request)
        photos = await read_photos(request, max_images=self._settings.max_batch_images)
        visit, usable = this_visit(), [encoded for encoded in photos.encoded if encoded is not None]
        visit.n_photos = len(photos.names)
        with self._in_work(len(photos.names)):
            asked_s = time.monotonic()
            scored = await self._until_hung_up(request, usable, explain)
        visit.model = scored.model.id
        self._telemetry.count(scored, scored_s=time.monotonic() - asked_s)
        await self._trial.offer(usable, scored)
        results = _results(photos, scored)
        if photos.single and isinstance(results[0], contract.Refused):
            return contract.UnusableBody(model=scored.model, results=results, error=results[0].error)
        return contract.ScoreBody(model=scored.model, results=results)

    def _wants_maps(self, request: Request) -> bool:
        asked = request.query_params.get("explain", "false").lower()
        if asked not in ("true", "false"):
            raise ServeError(400, "bad_request", f"explain={asked[:20]}: expected true or false")
        if asked == "true" and not self._settings.explain:
            what = "this endpoint draws no maps: leave explain out, or have it started with serve.explain=true"
            raise ServeError(400, "explain_off", what)
        return asked == "true"

    async def _until_hung_up(self, request: Request, encoded: list[bytes], explain: bool) -> contract.Scored:
        # The backend keeps the deadline; this is for clients that go away before it.
        answering = self._backend.score(encoded, timeout_s=self._settings.timeout_s, explain=explain)
        scoring = asyncio.ensure_future(answering)
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
        backlog, settings = self._backlog, self._settings
        too_many = backlog.waiting + n > settings.max_waiting_photos
        # What would be answered too late keeps others waiting for nothing.
        late_s = backlog.expected_s(n) - LATEST_SHARE * settings.timeout_s
        if too_many or late_s > 0:
            retry_after_s = max(settings.retry_after_s, math.ceil(late_s))
            raise come_again("busy", f"{backlog.waiting} photos are waiting", retry_after_s)
        backlog.begin(n)
        self._telemetry.in_flight.set(backlog.waiting)
        answered = False
        try:
            yield
            answered = True
        finally:
            backlog.end(n, answered=answered)
            self._telemetry.in_flight.set(backlog.waiting)

    async def get_model(self) -> contract.ModelBody:
        """Say who answers, what a request may hold, and what became of the newest attempt to change the model."""
        return await self._describe(await self._card())

    async def get_model_card(self) -> Response:
        """Describe the model that answers for people: intended use, data, figures, limits."""
        text = await self._backend.description()
        if text is None:
            raise not_ready(self._settings.retry_after_s)
        return Response(text, media_type=MARKDOWN)

    async def post_rollback(self) -> contract.ModelBody:
        """Go back to the model before this one, for whoever has the operator's key."""
        return await self._describe(await self._backend.roll_back())

    async def post_promote(self) -> contract.ModelBody:
        """Let the model on trial answer from now on, for whoever has the operator's key."""
        return await self._describe(await self._backend.promote())

    async def get_alive(self) -> contract.AliveBody:
        """Answer as long as this process does."""
        return contract.AliveBody(status="ok")

    async def get_ready(self) -> contract.AliveBody:
        """Answer once a model has answered a photo, and no longer once this endpoint is told to stop."""
        if self.draining:
            raise ServeError(503, "stopping", "this endpoint is stopping")
        await self._card()
        return contract.AliveBody(status="ok")

    async def get_metrics(self) -> Response:
        """Render counters as Prometheus reads them."""
        self._telemetry.show_exchanges(self._backend.exchanges())
        self._telemetry.shadow.show((await self._backend.shadow()).card)
        return Response(self._telemetry.text(), media_type="text/plain; version=0.0.4")

    async def _card(self) -> contract.ModelCard:
        card = await self._backend.card()
        if card is None:
            raise not_ready(self._settings.retry_after_s, await self._backend.swap_state())
        self._telemetry.show_model(card)
        return card

    async def _describe(self, card: contract.ModelCard) -> contract.ModelBody:
        limits = contract.Limits.model_validate(self._settings, from_attributes=True)
        swap, shadow = dict(await self._backend.swap_state()), await self._trial.body(card)
        explain = self._settings.explain
        return contract.ModelBody(**dict(card), limits=limits, explain=explain, swap=swap, shadow=shadow)


def _results(
    photos: Photos, scored: contract.Scored
) -> list[contract.Answered | contract.Explained | contract.Refused]:
    classes, positions, refused = scored.model.classes, itertools.count(), {**scored.refused, -1: _NOT_BASE64}
    results: list[contract.Answered | contract.Explained | contract.Refused] = []
    for name, encoded in zip(photos.names, photos.encoded, strict=True):
        position = -1 if encoded is None else next(positions)
        if position in refused:
            code, message = refused[position]
            why = contract.ErrorBody(code=code, message=message)
            results.append(contract.Refused(name=name, status="error", error=why))
            continue
        row = scored.probabilities[position]
        answer = contract.Answered(
            name=name,
            status="ok",
            label=classes[int(row.argmax())],
            confidence=float(row.max()),
            abstained=bool(scored.abstained[position]),
            probabilities=dict(zip(classes, row.tolist(), strict=True)),
        )
        if position in scored.maps:
            map_png = base64.b64encode(scored.maps[position]).decode()
            answer = contract.Explained(**dict(answer), map_png=map_png)
        results.append(answer)
    return results


async def _hung_up(request: Request) -> None:
    # The body has been read, so the next message is the client's leaving.
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _answer_error(request: Request, error: Exception) -> Response:
    if isinstance(error, ServeError):
        return problem(error)
    if isinstance(error, HTTPException):
        return _answer_http_error(request, error)
    tell("unforeseen", "something unforeseen", level=logging.ERROR, error=error, request_id=this_visit().request_id)
    return problem(ServeError(500, "internal", "something went wrong here; the endpoint's log says what"))


def _answer_http_error(request: Request, error: HTTPException) -> Response:
    asks_what_is_allowed = request.method == "OPTIONS"
    if asks_what_is_allowed and request.scope.get("raw_path") == b"*":
        return Response(status_code=204, headers={"Allow": "GET, HEAD, OPTIONS, POST"})
    if error.status_code == 404:
        return problem(ServeError(404, "not_found", "there is nothing at this address; what there is, /docs says"))
    if error.status_code == 405:
        allowed = set((error.headers or {}).get("Allow", "").split(", "))
        methods = ", ".join(sorted(allowed | ({"HEAD"} if "GET" in allowed else set())))
        if asks_what_is_allowed:
            return Response(status_code=204, headers={"Allow": f"{methods}, OPTIONS"})
        answer = problem(ServeError(405, "method_not_allowed", f"this address takes {methods} only"))
        answer.headers["Allow"] = methods
        return answer
    return problem(ServeError(error.status_code, "bad_request", str(error.detail)))
