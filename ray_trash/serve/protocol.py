"""HTTP on a socket with deadlines: a client that sends or reads too slowly is hung up on.

uvicorn itself only watches connections that have been answered once.
"""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from ray_trash.serve.admission import problem
from ray_trash.serve.contract import ServeError

MAX_CONNECTIONS = 1000
"""Open connections, as every one takes a file descriptor. One more takes the place of one that rests, or is closed."""

LOOK_S = 1.0
"""How often it is looked whether a client that has stopped sending still reads."""


def timed_protocol(*, header_timeout_s: float, body_timeout_s: float) -> type[H11Protocol]:
    """Make the class of connections with these deadlines; that of a body is for one that was answered unread."""

    class TimedProtocol(H11Protocol):
        _waits_for: str | None = None
        _deadline: asyncio.TimerHandle | None = None
        _unread: asyncio.TimerHandle | None = None
        _looking: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            if len(self.connections) >= MAX_CONNECTIONS and not self._close_one_that_rests():
                transport.abort()
                return
            super().connection_made(transport)
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            self._wait_for(None)
            self._wait_for_reader(False)
            if self._looking is not None:
                self._looking.cancel()
            if self.transport is not None:
                super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def eof_received(self) -> bool:  # type: ignore[override]
            # Who has only stopped sending wants the answer; who has gone does not take what is sent meanwhile.
            is_whole = self.conn.their_state is h11.DONE and self.conn.our_state is h11.SEND_RESPONSE
            if not is_whole or self.conn.their_http_version == b"1.0":
                return False
            self._look_for_reader()
            return True

        def _look_for_reader(self) -> None:
            if self.conn.our_state is h11.SEND_RESPONSE and not self.transport.is_closing():
                processing = h11.InformationalResponse(status_code=102, headers=[], reason=b"Processing")
                self.transport.write(self.conn.send(processing) or b"")
                self._looking = self.loop.call_later(LOOK_S, self._look_for_reader)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._wait_for_reader(True)

        def resume_writing(self) -> None:
            super().resume_writing()
            if not self.transport.is_closing():
                self._wait_for_reader(False)

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._watch()
            if self._looking is not None:
                self.transport.close()  # no other request comes
            if self.transport.is_closing():
                self._wait_for_reader(True)

        def send_400_response(self, msg: str) -> None:
            if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
                self.transport.close()  # what cannot be read comes after an answer, or in the middle of one
                return
            if self.cycle is not None:
                self.cycle.disconnected = True  # the application has nobody to answer any more
            body = bytes(problem(ServeError(400, "bad_request", "this is not HTTP, or its headers are too long")).body)
            headers = {"content-type": "application/json", "connection": "close", "content-length": str(len(body))}
            start = h11.Response(status_code=400, headers=list(headers.items()), reason=b"Bad Request")
            for event in (start, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
            self.transport.close()
            self._wait_for_reader(True)

        def _close_one_that_rests(self) -> bool:
            for other in self.connections:
                if (
                    isinstance(other, TimedProtocol)
                    and other.timeout_keep_alive_task
                    and not other.transport.is_closing()
                ):
                    other.timeout_keep_alive_handler()
                    return True
            return False

        def _watch(self) -> None:
            waits_for = {h11.IDLE: "headers", h11.SEND_BODY: "body"}.get(self.conn.their_state)
            if waits_for == "headers" and self.timeout_keep_alive_task is not None:
                waits_for = None  # between two requests uvicorn's own deadline runs
            if waits_for == "body" and not self.cycle.response_complete:
                waits_for = None  # the application reads it, and answers with a reason where it does not come
            if waits_for != self._waits_for:
                self._wait_for(waits_for)

        def _wait_for(self, what: str | None) -> None:
            self._waits_for = what
            if self._deadline is not None:
                self._deadline.cancel()
            self._deadline = None
            if what is not None:
                timeout_s = header_timeout_s if what == "headers" else body_timeout_s
                self._deadline = self.loop.call_later(timeout_s, self._hang_up)

        def _wait_for_reader(self, unread: bool) -> None:
            # Whoever does not read what was sent holds a connection, and the request that is answered.
            if not unread and self._unread is not None:
                self._unread.cancel()
                self._unread = None
            elif unread and self._unread is None:
                self._unread = self.loop.call_later(body_timeout_s, self.transport.abort)

        def _hang_up(self) -> None:
            if not self.transport.is_closing():
                self.transport.abort()

    return TimedProtocol
