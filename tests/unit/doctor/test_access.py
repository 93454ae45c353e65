from __future__ import annotations

import os
import socket
from pathlib import Path

import psutil
import pytest

from ray_trash.doctor.access import (
    Listener,
    check_listeners,
    check_proxies,
    check_servers,
    check_token,
    listeners_of,
)


def a_token(folder: Path, mode: int, text: str = "secret") -> dict[str, str]:
    path = folder / "token"
    path.write_text(text)
    path.chmod(mode)
    return {"RAY_AUTH_TOKEN_PATH": str(path)}


def test_a_token_is_for_its_user_alone(tmp_path: Path) -> None:
    assert check_token(a_token(tmp_path, 0o600)).status == "ok"
    found = check_token(a_token(tmp_path, 0o644))
    assert found.status == "problem"
    assert "mode 0644" in found.found
    assert found.advice.startswith("rm ")
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o644  # looked at, not changed


def test_a_token_that_is_missing_empty_or_off_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_token(a_token(tmp_path, 0o600, "\n")).status == "problem"
    assert check_token({"RAY_AUTH_TOKEN_PATH": str(tmp_path / "none")}).status == "problem"
    assert check_token({"RAY_AUTH_MODE": "disabled"}).status == "warning"
    assert check_token({"RAY_AUTH_TOKEN": "secret"}).status == "ok"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "none yet" in check_token({}).found


def test_the_secret_itself_is_never_said(tmp_path: Path) -> None:
    for mode in (0o600, 0o644):
        assert "b81f00d" not in str(check_token(a_token(tmp_path, mode, "b81f00d")))


def test_what_this_process_opens_to_others_is_found_and_what_it_keeps_to_itself_is_not() -> None:
    with (
        socket.create_server(("0.0.0.0", 0)) as others,
        socket.create_server(("127.0.0.1", 0)) as own,
        socket.socket(socket.AF_INET6) as of_both_families,
    ):
        of_both_families.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        of_both_families.bind(("::ffff:127.0.0.1", 0))
        of_both_families.listen()
        ports = {one.port for one in listeners_of([psutil.Process()])}
        assert others.getsockname()[1] in ports
        assert own.getsockname()[1] not in ports
        assert of_both_families.getsockname()[1] not in ports


def test_a_process_that_has_ended_listens_to_nobody() -> None:
    ended = psutil.Popen(["true"])
    ended.wait()
    assert listeners_of([ended]) == []


def test_listeners_beyond_loopback_are_a_problem_and_open_servers_of_a_cluster_a_warning() -> None:
    open_one = Listener("raylet", "::", 4711)
    assert check_listeners([]).status == "ok"
    assert check_listeners([open_one]).found == "beyond loopback: raylet at [::]:4711"
    assert check_servers([]).status == "ok"
    found = check_servers([("head", Listener("dashboard, which runs jobs", "0.0.0.0", 8265))])
    assert (found.status, found.found) == (
        "warning",
        "open to other machines: dashboard, which runs jobs at 0.0.0.0:8265 on head",
    )


@pytest.mark.parametrize(
    ("environment", "status"),
    [
        ({}, "ok"),
        ({"no_proxy": "localhost"}, "ok"),
        ({"http_proxy": "http://proxy:3128", "no_proxy": "localhost"}, "warning"),
        ({"HTTPS_PROXY": "http://proxy:3128"}, "warning"),
        ({"http_proxy": "http://proxy:3128", "no_proxy": "10.0.0.7"}, "ok"),
        ({"http_proxy": "http://proxy:3128", "no_proxy": "localhost, 10.0.0.0/8"}, "ok"),
        ({"http_proxy": "http://proxy:3128", "NO_PROXY": "*"}, "ok"),
    ],
)
def test_machines_of_a_cluster_are_asked_without_a_proxy(environment: dict[str, str], status: str) -> None:
    found = check_proxies(environment, ["10.0.0.7"])
    assert found.status == status
    assert ("no_proxy=$no_proxy,10.0.0.7" in found.advice) == (status == "warning")


def test_an_unreadable_token_is_a_problem(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root reads every file")
    assert check_token(a_token(tmp_path, 0o000)).status == "problem"
