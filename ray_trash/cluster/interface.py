"""The network interface that carries a Ray node's address, which collectives between machines must use too.

Left alone, gloo takes the interface of the machine's own name, which Debian and Ubuntu resolve to a loopback address.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Mapping, MutableMapping, Sequence

import psutil
import ray
import ray.util

GLOO = "GLOO_SOCKET_IFNAME"
NCCL = "NCCL_SOCKET_IFNAME"

Addresses = Mapping[str, Sequence[str]]
"""Interfaces by name, each with its IPv4 addresses and then its IPv6 addresses."""


def bind_interface(
    node_address: str, head: str, interfaces: Addresses, environment: MutableMapping[str, str]
) -> str | None:
    """Set the interface of gloo and NCCL where the environment does not name one, and return an address they have.

    It is the interface with the node's address. Where that is on none, as behind a translation of addresses, it is the
    one by which the head is reached. None where nothing is found; then the libraries choose as they do.

    Args:
        node_address: Of this process's Ray node.
        head: Address of the cluster's head, HOST:PORT.
        interfaces: Of this machine.
        environment: What to read and to change, before a library reads it.
    """
    name = environment.get(GLOO, "").split(",")[0] or _carrying(node_address, interfaces)
    if name is None:
        name = _carrying(_own_address_towards(head), interfaces)
    if name is None:
        return None
    environment.setdefault(GLOO, name)
    if not _is_loopback(node_address):
        # The sign has NCCL take this name and not all that begin with it. It finds loopback by itself, as the last.
        environment.setdefault(NCCL, f"={name}")
    own = interfaces.get(name, ())
    return node_address if node_address in own else next(iter(own), None)


def interfaces_of_this_machine() -> Addresses:
    """List the interfaces with their addresses, without those that are valid on one link only."""
    return {
        name: [
            entry.address
            for family in (socket.AF_INET, socket.AF_INET6)
            for entry in entries
            if entry.family == family and not _is_link_local(entry.address)
        ]
        for name, entries in psutil.net_if_addrs().items()
    }


def bind_this_process() -> tuple[str, bool]:
    """Bind this process, which is one of Ray's, before it joins others.

    Returns:
        The address that others reach it at, and whether an interface of this machine has it.
    """
    address = ray.util.get_node_ip_address()
    bound = bind_interface(address, ray.get_runtime_context().gcs_address, interfaces_of_this_machine(), os.environ)
    return bound or address, bound is not None


def _carrying(address: str | None, interfaces: Addresses) -> str | None:
    if address is None:
        return None
    wanted = ipaddress.ip_address(address)
    for name, own in interfaces.items():
        if any(ipaddress.ip_address(each) == wanted for each in own):
            return name
    return None


def _own_address_towards(head: str) -> str | None:
    """Return the address that this machine has for the head: no packet is sent for it."""
    host, _, port = head.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((host, int(port)))
            return str(probe.getsockname()[0])
    except OSError:
        return None


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback


def _is_link_local(address: str) -> bool:
    return "%" in address or ipaddress.ip_address(address).is_link_local
