"""An S3 server on this machine, and buckets nobody has used before."""

from __future__ import annotations

import itertools
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from pyarrow import fs

_numbers = itertools.count()


@dataclass(frozen=True)
class Bucket:
    """One test's own bucket; its addresses hold all it takes to open them, in whichever process."""

    filesystem: fs.FileSystem
    name: str
    query: str

    def put(self, key: str, content: bytes) -> None:
        """Write an object of any name, also one that pyarrow would write as a folder or not at all."""
        endpoint = self.query.partition("endpoint_override=")[2].partition("&")[0]
        headers = {"Content-Type": "application/octet-stream"}
        request = urllib.request.Request(f"http://{endpoint}/{self.name}/{key}", content, headers, method="PUT")
        with urllib.request.urlopen(request, timeout=30):
            pass

    def uri(self, path: str) -> str:
        return f"s3://test:test@{self.name}/{path}?{self.query}"


@contextmanager
def s3_server() -> Iterator[str]:
    """Run a server inside the block, at the host and port given."""
    from moto.server import ThreadedMotoServer

    with pytest.MonkeyPatch.context() as environment:
        # Without it, the client asks for credentials at an address that nobody answers at.
        environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        yield f"{host}:{port}"
        server.stop()


def new_bucket(endpoint: str) -> Bucket:
    """Make an empty bucket; its name is new, for all servers of one process show the same buckets."""
    name = f"bucket-{next(_numbers)}"
    query = f"endpoint_override={endpoint}&scheme=http&region=us-east-1&allow_bucket_creation=true"
    filesystem, path = fs.FileSystem.from_uri(f"s3://test:test@{name}?{query}")
    filesystem.create_dir(path)
    return Bucket(filesystem, name, query)
