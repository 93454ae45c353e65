"""One local Ray and one S3 server for the whole level, and the command on them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.photos import make_photos
from tests.runs import Command, Finished
from tests.s3 import Bucket, new_bucket, s3_server

# For the package, not the session: the children of the e2e level start clusters of their own.
for_the_level = pytest.fixture(scope="package")


@for_the_level
def ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    token = tmp_path_factory.mktemp("ray") / "auth_token"
    token.touch(mode=0o600)
    token.write_text("0123456789abcdef" * 4)
    environment = pytest.MonkeyPatch()
    environment.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    # Ray ends a worker that is idle for a second, and the next test would wait for another to start.
    environment.setenv("RAY_idle_worker_killing_time_threshold_ms", "600000")
    # As machines have it on which endpoints are deployed.
    environment.setenv("RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH", "ray_trash.serve.proxy:middlewares")
    # Ray says what replicas have to do every ten seconds.
    environment.setenv("RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S", "1")
    import ray

    ray.init(
        num_cpus=4,
        object_store_memory=500_000_000,
        include_dashboard=False,
        log_to_driver=False,
    )
    yield
    ray.shutdown()
    environment.undo()


@for_the_level
def joined(ray_cluster: None) -> dict[str, str]:
    """Give the variables with which a process of its own joins the shared Ray."""
    import ray

    return {"RAY_ADDRESS": ray.get_runtime_context().gcs_address, "RAY_AUTH_MODE": "token"}


@pytest.fixture
def command(
    ray_cluster: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Command]:
    """Run `ray-trash` with arguments, in this process and on the shared Ray."""
    from ray_trash.cli import main

    monkeypatch.setenv("RAY_TRASH_TRACEBACK", "1")
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def run(*arguments: object) -> Finished:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Finished(code, *capsys.readouterr())

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


@for_the_level
def tiny_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve photos of each of three classes; only to be read."""
    return make_photos(tmp_path_factory.mktemp("photos"), 12)


@for_the_level
def trained(ray_cluster: None, tiny_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train two epochs on one worker. Returns the run's folder, only to be read; a copy is a run like any other."""
    from tests.integration.training import configured, train

    folder = tmp_path_factory.mktemp("trained")
    train(configured(folder, tiny_photos))
    return folder / "runs" / "tiny"


@for_the_level
def s3_endpoint() -> Iterator[str]:
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def bucket(s3_endpoint: str) -> Bucket:
    return new_bucket(s3_endpoint)
