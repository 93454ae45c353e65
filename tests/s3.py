"""An S3 server on this machine, and buckets nobody has used before."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import parse_qs

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
        import boto3

        endpoint = f"http://{parse_qs(self.query)['endpoint_override'][0]}"
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
        boto3.client("s3", endpoint_url=endpoint, **keys).put_object(Bucket=self.name, Key=key, Body=content)

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
