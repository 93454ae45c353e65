"""An object store on this machine that answers each request late, as a real one does: S3's reading half over a folder.

A process of its own, so that it does not share a Python interpreter with what is measured.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

_PAGE_KEYS = 1000
"""Names in an answer to a listing, as S3 gives them."""


@contextmanager
def object_store(folder: Path, *, latency_ms: float) -> Iterator[str]:
    """Serve a folder as the bucket `bucket` inside the block; give the host and port."""
    command = [sys.executable, "-m", "benchmarks.object_store", str(folder), "--latency-ms", str(latency_ms)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()


def served(endpoint: str) -> tuple[int, int]:
    """Return how many requests were answered, with how many bytes, since the last time."""
    with urllib.request.urlopen(f"http://{endpoint}/-/served") as answer:
        requests, n_bytes = answer.read().split()
    return int(requests), int(n_bytes)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    root: Path
    latency_s: float
    keys: tuple[str, ...] = ()
    counts = (0, 0)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        address = urlsplit(self.path)
        if address.path == "/-/served":
            self._send(200, b"%d %d" % _Handler.counts)
            _Handler.counts = (0, 0)
            return
        time.sleep(self.latency_s)
        _Handler.counts = (_Handler.counts[0] + 1, _Handler.counts[1])
        _, _, key = unquote(address.path).lstrip("/").partition("/")
        query = {name: values[0] for name, values in parse_qs(address.query, keep_blank_values=True).items()}
        if not key and "list-type" in query:
            self._send(200, self._page(query))
            return
        try:
            with (self.root / key).open("rb") as file:
                size = file.seek(0, 2)
                start, end = self._range(size)
                file.seek(start)
                body = file.read(end - start) if with_body else b""
        except OSError:
            self._send(404, b"<Error><Code>NoSuchKey</Code></Error>" if with_body else b"")
            return
        headers = {"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT", "ETag": '"1"', "Accept-Ranges": "bytes"}
        is_part = (start, end) != (0, size)
        if is_part:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        self._send(206 if is_part else 200, body, length=end - start, **headers)

    def _range(self, size: int) -> tuple[int, int]:
        first, dash, last = self.headers.get("Range", "").removeprefix("bytes=").partition("-")
        return (int(first), min(size, int(last) + 1 if last else size)) if dash and first else (0, size)

    def _page(self, query: dict[str, str]) -> bytes:
        prefix, limit = query.get("prefix", ""), int(query.get("max-keys", _PAGE_KEYS))
        after = query.get("continuation-token", "")
        found = [key for key in self.keys if key.startswith(prefix) and key > after]
        page = found[:limit]
        parts = [
            f"<Contents><Key>{escape(key)}</Key><LastModified>2024-01-01T00:00:00.000Z</LastModified><ETag>1</ETag>"
            f"<Size>{(self.root / key).stat().st_size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            for key in page
        ]
        more = len(found) > len(page)
        token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        return (
            '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bucket</Name>'
            f"<Prefix>{escape(prefix)}</Prefix><KeyCount>{len(page)}</KeyCount><MaxKeys>{limit}</MaxKeys>"
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{''.join(parts)}{token}</ListBucketResult>"
        ).encode()

    def _send(self, status: int, body: bytes, *, length: int | None = None, **headers: str) -> None:
        _Handler.counts = (_Handler.counts[0], _Handler.counts[1] + len(body))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--latency-ms", type=float, default=20.0)
    options = parser.parse_args()
    _Handler.root, _Handler.latency_s = options.folder, options.latency_ms / 1000
    files = (path for path in options.folder.rglob("*") if path.is_file())
    _Handler.keys = tuple(sorted(path.relative_to(options.folder).as_posix() for path in files))
    server = _Server(("127.0.0.1", 0), _Handler)
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
