"""The socket of an endpoint. Plain Python, quick to import: it is taken before anything is loaded."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Sequence
from typing import Any

from ray_trash.errors import ConfigError


def bind(host: str, port: int) -> list[socket.socket]:
    """Listen on an address: for a name of several addresses on a socket each, on one port.

    `localhost` is this machine in both of its families, and `::` every address of both. Who connects before there is a
    server waits for it.

    Raises:
        ConfigError: It is taken, not this machine's, or none.
    """
    taken: list[socket.socket] = []
    failures: list[OSError] = []
    for family, address in _addresses(host.strip().removeprefix("[").removesuffix("]")):
        try:
            port_now = taken[0].getsockname()[1] if taken else port
            taken.append(_bind_one(family, (address[0], port_now, *address[2:])))
        except OSError as error:
            failures.append(error)
    # A machine need not have every family that a name has addresses of; what is taken is another matter.
    missing = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
    serious = [failure for failure in failures if failure.errno not in missing] or ([] if taken else failures)
    if serious:
        for each in taken:
            each.close()
        advice = {
            errno.EACCES: "ports below 1024 are the administrator's; choose another --port",
            errno.EADDRNOTAVAIL: "it is no address of this machine; choose another --host",
            errno.EAFNOSUPPORT: "this machine has no such addresses; choose another --host",
        }.get(serious[0].errno or 0, "choose another --port")
        raise ConfigError(f"{host}:{port}: cannot listen there: {serious[0].strerror}; {advice}") from serious[0]
    return taken


def _addresses(host: str) -> list[tuple[socket.AddressFamily, tuple[Any, ...]]]:
    if not host:
        raise ConfigError("--host: expected an address; 127.0.0.1 is for this machine only, 0.0.0.0 for everybody")
    if host.lower() == "localhost":
        # Resolvers often know one of them only, and clients' another. Source: RFC 6761, 6.3.
        return [(socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_INET6, ("::1", 0))]
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, ValueError) as error:
        raise ConfigError(f"--host {host!r}: no such name or address; expected one such as 127.0.0.1") from error
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def _bind_one(family: socket.AddressFamily, address: tuple[Any, ...]) -> socket.socket:
    # Named, since asyncio sends small answers without delay only where it knows that the protocol is TCP.
    taken = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address[0] != "::")
        taken.bind(address)
        taken.listen()  # until then another process may take it as well
    except OSError:
        taken.close()
        raise
    return taken


def is_open_to_others(taken: Sequence[socket.socket]) -> bool:
    """Return whether other machines may reach one of these sockets."""
    return not all(ipaddress.ip_address(each.getsockname()[0].partition("%")[0]).is_loopback for each in taken)
