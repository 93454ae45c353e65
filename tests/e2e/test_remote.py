"""Photos and runs on S3, and jobs on a cluster, against real servers on this machine."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow.fs as fs
import pytest

from ray_trash.model.checkpoint import open_checkpoint
from ray_trash.storage import Storage
from tests.e2e.command import TINY, run, write_config
from tests.photos import make_photos

RAY = Path(sys.executable).parent / "ray"


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    yield environment
    server.stop()


def test_photos_catalogue_and_checkpoints_may_all_be_on_s3(s3: dict[str, str], tmp_path: Path) -> None:
    local = make_photos(tmp_path / "photos", 12)
    bucket = fs.S3FileSystem(endpoint_override=s3["AWS_ENDPOINT_URL"], region="us-east-1", allow_bucket_creation=True)
    for name in ("photos", "runs"):
        bucket.create_dir(name)
    fs.copy_files(str(local), "photos/set", destination_filesystem=bucket)
    with bucket.open_output_stream("photos/set/glass/bad.jpg") as file:
        file.write(b"no photo")
    config = tmp_path / "s3.yaml"
    config.write_text(TINY.replace("REPLACED", "s3://photos/set") + "storage: s3://runs/all\n")
    result = run("run", config, "--set", "train.epochs=2", "--set", "data.cache=stream", environment=s3)
    assert result.returncode == 0, result.stderr
    stored = Storage.open("s3://runs/all/tiny")
    assert open_checkpoint(stored.child("checkpoint")).document.epoch in (1, 2)
    assert len(stored.read_bytes("metrics.jsonl").splitlines()) == 2
    audit = json.loads(stored.read_bytes("audit.json"))
    assert [entry["path"] for entry in audit["rejected"]] == ["glass/bad.jpg"]
    assert json.loads(stored.read_bytes("evaluation.json"))["n"] == audit["splits"]["test"]["n"]
    resumed = run("train", config, "--set", "train.epochs=3", "--resume", environment=s3)
    assert resumed.returncode == 0, resumed.stderr
    assert len(stored.read_bytes("metrics.jsonl").splitlines()) == 3


def free_port() -> int:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        return int(holder.getsockname()[1])


@pytest.fixture
def cluster() -> Iterator[tuple[str, dict[str, str]]]:
    """Start a one-node cluster with token authentication, in a folder of its own, and kill it by pid."""
    # Ray's sockets live below this folder, and a socket's path must stay below 108 bytes.
    with tempfile.TemporaryDirectory(prefix="rt", dir="/tmp") as folder:
        token = Path(folder) / "token"
        token.write_text(secrets.token_hex(32))
        token.chmod(0o600)
        dashboard = free_port()
        environment = {
            **os.environ,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USAGE_STATS_ENABLED": "0",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        command = [RAY, "start", "--head", "--num-cpus=2", f"--port={free_port()}", "--dashboard-host=127.0.0.1"]
        command += [f"--dashboard-port={dashboard}", "--object-store-memory=400000000", "--disable-usage-stats"]
        subprocess.run(
            [*map(str, command), f"--temp-dir={folder}/r"],
            env=environment,
            check=True,
            capture_output=True,
            timeout=120,
        )
        try:
            yield f"http://127.0.0.1:{dashboard}", environment
        finally:
            for process in Path("/proc").iterdir():
                try:
                    if process.name.isdigit() and folder.encode() in (process / "cmdline").read_bytes():
                        os.kill(int(process.name), signal.SIGKILL)
                except (OSError, ProcessLookupError):
                    continue


def submit(address: str, environment: dict[str, str], *command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(RAY), "job", "submit", "--address", address, "--", *map(str, command)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def test_a_submitted_run_ends_right_and_a_bad_config_fails_the_job(
    cluster: tuple[str, dict[str, str]], tmp_path: Path
) -> None:
    address, environment = cluster
    photos = make_photos(tmp_path / "photos", 12)
    config = write_config(tmp_path, photos)
    good = submit(address, environment, "ray-trash", "run", config, "--set", "train.epochs=1")
    assert good.returncode == 0, good.stdout + good.stderr
    assert (tmp_path / "runs" / "tiny" / "evaluation.json").exists()
    bad = submit(address, environment, "ray-trash", "run", config, "--set", "train.epoch=1")
    assert bad.returncode == 1
    assert "did you mean train.epochs?" in bad.stdout + bad.stderr
    stranger = {**environment, "RAY_AUTH_TOKEN_PATH": str(tmp_path / "other")}
    (tmp_path / "other").write_text(secrets.token_hex(32))
    assert submit(address, stranger, "ray-trash", "--version").returncode != 0
