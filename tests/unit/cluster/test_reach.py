"""Connections between machines that are tried, here from this process to itself."""

from __future__ import annotations

import socket

import pytest

from ray_trash.cluster import reach
from ray_trash.cluster.reach import Gap, Listener, listen, try_all


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "bind_this_process", lambda: ("127.0.0.1", True))
    monkeypatch.setattr(reach, "LISTENING_S", 5.0)
    monkeypatch.setattr(reach, "CONNECT_TIMEOUT_S", 2.0)


def test_who_listens_is_reached_more_than_once() -> None:
    there = listen()
    assert there.address == "127.0.0.1"
    assert try_all([there]) == try_all([there, there]) == []


def test_a_closed_port_is_named_with_machine_address_and_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    (gap,) = try_all([Listener("machine-2", "127.0.0.1", port)])
    assert gap.line().startswith(
        f"{socket.gethostname()} does not reach machine-2 at 127.0.0.1, port {port}: Connection refused; let machines"
    )


def test_a_connection_through_which_nothing_comes_is_told_from_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "CONNECT_TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        (gap,) = try_all([Listener("machine-2", "127.0.0.1", silent.getsockname()[1])])
    assert "no answer within 0.1 s to 64 KiB, though a connection was made; is there one MTU" in gap.line()


def test_a_machine_where_nothing_starts_is_one_line_too() -> None:
    line = Gap("", "machine-3", "10.0.0.3", None, "a process there does not answer within 30 s").line()
    assert line == "machine-3 (10.0.0.3): a process there does not answer within 30 s"
