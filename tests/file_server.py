"""Files over HTTP on this machine, with faults on request."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.http_server import QuietHandler, serving

HANG_UP = 0
"""As a status: no answer at all."""


@dataclass
class FileServer:
    """What is served, how it fails, and what was asked for."""

    files: dict[str, bytes] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    """New name of a file, by its old one."""
    statuses: dict[str, list[int | None]] = field(default_factory=dict)
    """Status of the next answers, by name; None and what comes after them is answered well."""
    cut_after: list[int] = field(default_factory=list)
    """After how many bytes each of the next answers stops."""
    without_ranges: bool = False
    silent: bool = False
    dripping: bool = False
    ranges: list[str | None] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    url: str = ""
    stop: threading.Event = field(default_factory=threading.Event)


@contextmanager
def file_server() -> Iterator[FileServer]:
    """Serve on a free port inside the block."""
    state = FileServer()

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            name = self.path.lstrip("/")
            state.paths.append(name)
            state.ranges.append(self.headers["Range"])
            if state.silent:
                state.stop.wait()
                return
            if name in state.moved:
                self.send_response(302)
                self.send_header("Location", f"/{state.moved[name]}")
                self.end_headers()
                return
            statuses = state.statuses.get(name, [])
            status = statuses.pop(0) if statuses else None
            if status == HANG_UP:
                return
            if status or name not in state.files:
                self.send_error(status or 404)
                return
            content = state.files[name]
            start = 0 if state.without_ranges else int((self.headers["Range"] or "bytes=0-")[6:-1])
            if start and start >= len(content):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            end = start + state.cut_after.pop(0) if state.cut_after else len(content)
            if state.dripping:
                for position in range(start, end):
                    self.wfile.write(content[position : position + 1])
                    if state.stop.wait(0.02):
                        return
            self.wfile.write(content[start:end])

    with serving(Handler) as state.url:
        try:
            yield state
        finally:
            state.stop.set()
