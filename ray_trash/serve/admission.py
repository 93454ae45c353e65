"""An ASGI application around another that lets requests in: those with the key, and within the limits.

The limits of size and number are checked against the headers, then against each piece of the body as it comes. A
refusal is JSON; what a client sends after it, the server throws away.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Callable, Mapping

from pydantic import BaseModel
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ray_trash.config import ServeConfig
from ray_trash.serve.access import this_visit
from ray_trash.serve.contract import ErrorBody, ProblemBody, ServeError, come_again
from ray_trash.serve.key import Keys

PROTECTED = ("/v1/", "/metrics")
"""Where clients' key is asked for; the rest tells nothing about photos or models."""
ROLL_BACK = "/v1/model/rollback"
PROMOTE = "/v1/model/promote"
OPERATED = (ROLL_BACK, PROMOTE)
"""Where the operator's key is asked for."""
SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}
MIN_BODY_BYTES_PER_S = 2048
"""Least rate of a body, over `serve.body_timeout_s`: what the slowest mobile networks carry."""
LONGEST_BODY = 20
"""So many times `serve.body_timeout_s` is the longest a body may take in all: 10 min."""
_MIB = 1 << 20


class Admission:
    """Lets requests in, and counts what they hold together.

    Bytes count from their arrival on, a request from the moment its body is whole. What is only announced holds
    nothing, so a client that sends nothing keeps nobody out.
    """

    def __init__(
        self, app: ASGIApp, settings: ServeConfig, *, keys: Keys | None, turned_away: Callable[[str], None]
    ) -> None:
        """Stand in front of an application; `turned_away` hears the code of every refusal.

        Without `keys` everybody is let in: somebody else asks for them.
        """
        self._app, self._turned_away, self._keys = app, turned_away, keys
        self.settings = settings
        self.max_body_bytes = int(settings.max_body_mib * _MIB)
        self._max_bytes = int(settings.max_waiting_mib * _MIB)
        self.waiting_requests = self.waiting_bytes = 0
        self._arriving: set[_LimitedBody] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._admit(scope, receive, send_safely)
        except ServeError as error:
            self._turned_away(error.code)
            await problem(error)(scope, receive, send_safely)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        self._require_key(headers, _path_in_application(scope))
        if scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        self.require_room(self._announced_bytes(headers))
        body = _LimitedBody(receive, self)
        self._arriving.add(body)
        try:
            await self._app(scope, body.receive, send)
        finally:
            self._arriving.discard(body)
            body.give_back()

    def refuse_unfinished(self) -> None:
        """Refuse, by a 503, the bodies that are still arriving: this endpoint ends before they do."""
        for body in self._arriving:
            body.refuse()

    def _require_key(self, headers: Headers, path: str) -> None:
        # Nothing else makes an operator: behind a proxy every address, and every name, may be this machine's own.
        if self._keys is None:
            return
        if path in OPERATED:
            accepted, whose = [self._keys.operator], "the operator's key"
        elif self._keys.client is not None and path.startswith(PROTECTED):
            accepted, whose = [self._keys.client, self._keys.operator], "the key"
        else:
            return
        credentials = [value.partition(" ") for value in headers.getlist("authorization")]
        given = [token.strip() for scheme, _, token in credentials if scheme.lower() == "bearer"]
        given += headers.getlist("x-api-key")
        sent = (given[0] if len(given) == 1 else "").encode("latin-1")
        # Every one is compared, so that the time it takes tells nothing.
        matches = [hmac.compare_digest(sent, key.encode()) for key in accepted if key is not None]
        if True not in matches:
            raise ServeError(401, "unauthorized", f"send {whose} as `Authorization: Bearer KEY`")

    def _announced_bytes(self, headers: Headers) -> int:
        text = headers.get("content-length")
        if text is None:
            return 0  # chunked: it is counted as it comes
        if "transfer-encoding" in headers:
            raise ServeError(400, "bad_request", "a body has a length or comes in chunks, not both")
        size = int(text)  # h11 has refused what is no number
        self.require_size(size)
        return size

    def require_size(self, n_bytes: int) -> None:
        """Refuse a body over the limit."""
        if n_bytes > self.max_body_bytes:
            raise ServeError(413, "body_too_large", f"the body is longer than {self.max_body_bytes / _MIB:g} MiB")

    def require_room(self, n_bytes: int) -> None:
        """Refuse one request more, and so many bytes, where too much is being answered."""
        too_many = self.waiting_requests >= self.settings.max_waiting_requests
        if too_many or self.waiting_bytes + n_bytes > self._max_bytes:
            what = "requests" if too_many else "bytes"
            raise come_again("busy", f"too many {what} are waiting", self.settings.retry_after_s)


class _LimitedBody:
    """A body that is neither longer nor slower than is allowed, and counted among those that wait.

    Slow is a client from which next to nothing comes for a while, however fast it was before: one that drips would keep
    what it has sent in memory.
    """

    def __init__(self, receive: Receive, admission: Admission) -> None:
        self._receive, self._admission = receive, admission
        self._timeout_s = self._patience_s = admission.settings.body_timeout_s
        self._left_s = LONGEST_BODY * self._timeout_s
        self._held_bytes = self._new_bytes = 0
        self._whole = self._refused = False
        self._deadline: asyncio.Timeout | None = None

    def refuse(self) -> None:
        self._refused = True
        if self._deadline is not None:
            self._deadline.reschedule(0)

    async def receive(self) -> Message:
        if self._whole:
            return await self._receive()
        asked_s = time.monotonic()
        try:
            async with asyncio.timeout(min(self._patience_s, self._left_s)) as self._deadline:
                message = await self._receive()
        except TimeoutError as error:
            if self._refused:
                retry_after_s = self._admission.settings.retry_after_s
                raise come_again("stopping", "this endpoint is stopping", retry_after_s) from error
            raise ServeError(408, "slow_body", self._why_too_slow()) from error
        finally:
            self._deadline = None
        # What passes between two calls is not the client's time.
        self._keep_time(time.monotonic() - asked_s, len(message.get("body", b"")))
        if message["type"] == "http.disconnect":
            raise ServeError(499, "hung_up", "the client has gone")
        if message["type"] == "http.request":
            n_bytes = len(message.get("body", b""))
            self._admission.require_size(self._held_bytes + n_bytes)
            self._admission.require_room(n_bytes)
            self._held_bytes += n_bytes
            self._admission.waiting_bytes += n_bytes
            if not message.get("more_body", False):
                self._whole = True
                self._admission.waiting_requests += 1
        return message

    def _keep_time(self, waited_s: float, n_bytes: int) -> None:
        self._left_s -= waited_s
        self._patience_s -= waited_s
        self._new_bytes += n_bytes
        if self._new_bytes >= MIN_BODY_BYTES_PER_S * self._timeout_s:
            self._new_bytes, self._patience_s = 0, self._timeout_s

    def _why_too_slow(self) -> str:
        if self._left_s <= self._patience_s:
            return f"the body did not come within {LONGEST_BODY * self._timeout_s:g} s; send fewer photos at once"
        enough = f"{MIN_BODY_BYTES_PER_S * self._timeout_s / 1024:.3g} KiB"
        return f"less than {enough} of the body came within {self._timeout_s:g} s; is the connection lost?"

    def give_back(self) -> None:
        self._admission.waiting_bytes -= self._held_bytes
        self._admission.waiting_requests -= self._whole


def problem(error: ServeError) -> Response:
    """Render a request that is not answered."""
    headers = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if error.status == 408:
        headers["Connection"] = "close"  # the rest of the body is not worth waiting for
    why = ErrorBody(code=error.code, message=str(error))
    return json_answer(ProblemBody(error=why, request_id=this_visit().request_id), error.status, headers)


def json_answer(body: BaseModel, status: int, headers: Mapping[str, str] | None = None) -> Response:
    """Render the body of an answer; FastAPI would check it again, which costs a quarter of a millisecond."""
    return Response(body.model_dump_json(), status, headers, media_type="application/json")


def _path_in_application(scope: Scope) -> str:
    # Behind a proxy that serves other things too, the path begins with the address of this one.
    path, root = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
    return path.removeprefix(root) if path.startswith(f"{root}/") else path
