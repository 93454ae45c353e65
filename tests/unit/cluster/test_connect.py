"""Where Ray starts and whom it joins, decided before any of its processes is there."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray._private import ray_constants

from ray_trash.cluster import connect, shares
from ray_trash.cluster.connect import choose_folder, keep_token_private, ray_session
from ray_trash.errors import ClusterError


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Have Ray start nothing. Returns how it was asked to."""
    asked: list[dict[str, Any]] = []

    def init(**options: Any) -> Any:
        asked.append(options)
        return SimpleNamespace(address_info={"session_dir": "/nowhere"})

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(gcs_address="127.0.0.1:9"))
    for name in ("begin_cluster", "remember_cluster_is_ours"):
        monkeypatch.setattr(connect, name, lambda place: None)
    for name in ("RAY_ADDRESS", "RAY_TMPDIR", "RAY_AUTH_TOKEN"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    return asked


@pytest.fixture
def silent_port() -> Any:
    """Listen without ever answering."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1:9", "nobody listens there: Connection refused; start it with"),
        ("[::1]:9", "nobody listens there: "),
        ("http://10.0.0.1:8265", "a cluster's dashboard, which takes jobs: `ray-trash submit"),
        ("ray://10.0.0.1:10001", "an address of Ray Client"),
        ("head", "not the address of a head, HOST:6379"),
        ("head:port", "not the address of a head, HOST:6379"),
        ("127.0.0.1:99999999", "nobody listens there: "),
    ],
)
def test_an_address_that_is_no_head_s_is_refused_at_once(
    address: str, words: str, started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ClusterError, match=f"^RAY_ADDRESS={address}: ".replace("[", r"\[")) as raised:
        ray_session(dashboard=False).__enter__()
    assert words in str(raised.value)
    assert not started


def test_a_head_that_does_not_answer_is_given_up(
    silent_port: int, started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = threading.Event()
    monkeypatch.setattr(ray, "init", lambda **_: ended.wait())
    monkeypatch.setattr(connect, "JOIN_TIMEOUT_S", 0.1)
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{silent_port}")
    try:
        with pytest.raises(ClusterError, match=r"no head of a cluster answers there within 0\.1 s; start it with"):
            ray_session(dashboard=False).__enter__()
    finally:
        ended.set()


def test_a_wrong_token_is_named(
    silent_port: int, started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        raise ConnectionError("Failed to connect") from RuntimeError("InvalidAuthToken: the token is another")

    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{silent_port}")
    with pytest.raises(ClusterError, match="wants another token; set RAY_AUTH_MODE=token"):
        ray_session(dashboard=False).__enter__()


@pytest.mark.parametrize("address", ["", "local"])
@pytest.mark.parametrize(
    ("files", "n_cpus"),
    [
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu.max": "150000 100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({}, None),
    ],
)
def test_half_a_processor_counts_as_one(
    address: str,
    files: dict[str, str],
    n_cpus: int | None,
    started: list[dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text + "\n")
    monkeypatch.setattr(shares, "_CGROUP", tmp_path)
    monkeypatch.setenv("RAY_ADDRESS", address)
    with ray_session(dashboard=False):
        pass
    assert [asked["num_cpus"] for asked in started] == [n_cpus]
    assert n_cpus is None or shares.usable_cpus() == 1


def test_a_start_that_fails_is_one_line(started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ray, "init", fail)
    with pytest.raises(ClusterError, match=r"does not start on this machine: .*No space left on device; it needs room"):
        ray_session(dashboard=False).__enter__()


def test_a_signal_to_stop_is_ours_while_ray_starts(
    started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    handlers = [signal.getsignal(signal.SIGTERM)]

    def start(**_: object) -> Any:
        ray._private.utils.set_sigterm_handler(lambda number, frame: sys.exit(number))
        handlers.append(signal.getsignal(signal.SIGTERM))
        return SimpleNamespace(address_info={"session_dir": "/nowhere"})

    monkeypatch.setattr(ray, "init", start)
    with ray_session(dashboard=False):
        handlers.append(signal.getsignal(signal.SIGTERM))
    assert handlers == handlers[:1] * 3


def test_a_long_folder_for_temporary_files_is_not_ray_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "")
    monkeypatch.setenv("TMPDIR", str(tmp_path / ("x" * 50)))
    choose_folder()
    assert len(os.environ["RAY_TMPDIR"]) < 30


def test_a_folder_of_another_user_is_not_ray_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", "")
    monkeypatch.delenv("TMPDIR", raising=False)
    monkeypatch.setattr(connect, "_can_write", lambda folder: folder != "/tmp/ray")
    choose_folder()
    assert os.environ["RAY_TMPDIR"].startswith("/tmp/ray-trash-")


@pytest.mark.parametrize("named", ["/proc/nothing", "/tmp/" + "long" * 30])
def test_a_named_folder_that_is_none_for_ray_is_refused(named: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TMPDIR", named)
    with pytest.raises(ClusterError, match=f"tried {named}/ray; set RAY_TMPDIR to one of at most 37 bytes"):
        choose_folder()


@pytest.fixture
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.setenv(name, "")


def test_the_token_is_readable_for_its_user_alone(
    no_token: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    keep_token_private()
    path = tmp_path / ".ray" / "auth_token"
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    keep_token_private()
    assert path.stat().st_mode & 0o777 == 0o600
    assert not os.environ["RAY_AUTH_TOKEN"]


def test_without_a_home_the_token_is_this_process_s(no_token: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/proc/nothing")
    keep_token_private()
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64


def test_a_named_token_that_cannot_be_used_is_refused(no_token: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/proc/nothing/token")
    with pytest.raises(ClusterError, match="RAY_AUTH_TOKEN_PATH=/proc/nothing/token: cannot be used: No such file"):
        keep_token_private()


@pytest.mark.parametrize("before", [None, "1"])
def test_a_ray_that_is_started_keeps_to_loopback_and_one_that_is_joined_later_does_not(
    before: str | None, started: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
    monkeypatch.delenv(name, raising=False) if before is None else monkeypatch.setenv(name, before)
    addresses: list[str] = []

    def start(**options: Any) -> Any:
        addresses.append(ray.util.get_node_ip_address())
        assert os.environ[name] == "0"
        return SimpleNamespace(address_info={"session_dir": "/nowhere"})

    monkeypatch.setattr(ray, "init", start)
    with ray_session(dashboard=False):
        assert os.environ.get(name) == before
    assert addresses == ["127.0.0.1"]
    assert ray_constants.ENABLE_RAY_CLUSTER
