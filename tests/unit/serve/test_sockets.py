"""Addresses to listen on: as they are written, and as machines have them."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from ray_trash.errors import ConfigError
from ray_trash.serve.sockets import bind, is_open_to_others


@contextlib.contextmanager
def bound(host: str, port: int = 0) -> Iterator[list[socket.socket]]:
    taken = bind(host, port)
    with contextlib.ExitStack() as stack:
        for each in taken:
            stack.enter_context(each)
        yield taken


def reaches(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST"])
def test_localhost_is_this_machine_in_both_families(host: str):
    with bound(host) as taken:
        port = taken[0].getsockname()[1]
        assert reaches("127.0.0.1", port)
        assert reaches("::1", port)
        assert not is_open_to_others(taken)


def test_localhost_is_one_family_where_the_machine_has_no_other(monkeypatch: pytest.MonkeyPatch):
    def without_ipv6(family: int, *rest: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        return made(family, *rest)

    made = socket.socket
    monkeypatch.setattr("ray_trash.serve.sockets.socket.socket", without_ipv6)
    with bound("localhost") as taken:
        assert len(taken) == 1
    with pytest.raises(ConfigError, match="this machine has no such addresses; choose another --host"):
        bind("::1", 0)


@pytest.mark.parametrize(
    ("host", "families", "is_open"),
    [
        ("127.0.0.1", ("127.0.0.1",), False),
        ("::1", ("::1",), False),
        ("[::1]", ("::1",), False),
        ("0.0.0.0", ("127.0.0.1",), True),
        ("::", ("127.0.0.1", "::1"), True),
    ],
)
def test_an_address_is_reached_in_its_families_and_known_to_be_open(
    host: str, families: tuple[str, ...], is_open: bool
):
    with bound(host) as taken:
        port = taken[0].getsockname()[1]
        assert tuple(each for each in ("127.0.0.1", "::1") if reaches(each, port)) == families
        assert is_open_to_others(taken) is is_open


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0", "::"])
@pytest.mark.parametrize("other", ["127.0.0.1", "::1"])
def test_a_port_that_is_taken_in_one_family_is_taken(host: str, other: str):
    with bound(other) as taken:
        port = taken[0].getsockname()[1]
        clash = host in ("localhost", "::") or other == "127.0.0.1"
        refused = pytest.raises(ConfigError, match="Address already in use; choose another --port")
        with refused if clash else contextlib.nullcontext(), bound(host, port):
            pass


@pytest.mark.parametrize(
    ("host", "says"),
    [
        ("", "expected an address; 127.0.0.1 is for this machine only"),
        (" ", "expected an address"),
        ("*", "no such name or address"),
        ("http://127.0.0.1", "no such name or address"),
        ("127.0.0.1:8000", "no such name or address"),
        ("a" * 70, "no such name or address"),
        ("a\0b", "no such name or address"),
        ("192.0.2.1", "no address of this machine; choose another --host"),
        ("2001:db8::1", "no address of this machine; choose another --host"),
    ],
)
def test_an_address_that_is_none_is_one_line_that_says_what_to_change(host: str, says: str):
    with pytest.raises(ConfigError, match=says) as told:
        bind(host, 8000)
    assert "\n" not in str(told.value)


def test_a_port_that_is_the_administrator_s_is_told_so(monkeypatch: pytest.MonkeyPatch):
    def refuse(self: socket.socket, address: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(ConfigError, match="ports below 1024 are the administrator's; choose another --port"):
        bind("127.0.0.1", 80)
