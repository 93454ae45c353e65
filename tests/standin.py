"""Something that answers like the endpoint, or fails as told: one thread a request, nothing computed."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from tests.http_server import QuietHandler, serving

CARD = {"id": "abc123", "classes": ["glass", "metal"], "engine": "stand-in"}


@dataclass
class StandIn:
    """What was asked, and what is answered."""

    url: str = ""
    script: list[tuple[int, dict[str, str], dict[str, Any]]] = field(default_factory=list)
    """Status, headers and body of the next answers; after them, every request is answered well."""
    keys: list[str | None] = field(default_factory=list)
    batches: list[list[str]] = field(default_factory=list)
    """Names of the photos of each request for answers."""
    max_photos: int = 64
    model_id: str = "abc123"
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, path: str, key: str | None, body: bytes) -> tuple[int, dict[str, str], dict[str, Any]]:
        names = [name.decode() for name in re.findall(rb'filename="([^"]*)"', body)]
        with self._lock:
            self.keys.append(key)
            if names:
                self.batches.append(names)
            if self.script:
                return self.script.pop(0)
        if path == "/v1/model":
            return 200, {}, {**CARD, "id": self.model_id}
        if path != "/v1/score":
            return 404, {}, {"error": {"code": "not_found", "message": "no such address"}}
        if len(names) > self.max_photos:
            return 413, {}, {"error": {"code": "too_many_images", "message": f"more than {self.max_photos} photos"}}
        probabilities = {"glass": 0.75, "metal": 0.25}
        said = {
            "status": "ok",
            "label": "glass",
            "confidence": 0.75,
            "abstained": False,
            "probabilities": probabilities,
        }
        return 200, {}, {"model": {"id": self.model_id}, "results": [{"name": name, **said} for name in names]}


@contextmanager
def stand_in() -> Iterator[StandIn]:
    """Answer on a free port inside the block."""
    state = StandIn()

    class Handler(QuietHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            status, headers, tree = state.answer(self.path, self.headers.get("authorization"), body)
            content = json.dumps(tree).encode()
            with suppress(ConnectionError):  # who asked may have gone
                self.send_response(status)
                for name, value in {**headers, "content-length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

        do_GET = do_POST = _answer

    with serving(Handler) as state.url:
        yield state
