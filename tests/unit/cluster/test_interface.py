"""Which interface collectives use, decided from addresses alone."""

from __future__ import annotations

import pytest

from ray_trash.cluster import interface
from ray_trash.cluster.interface import bind_interface, interfaces_of_this_machine

HEAD = "10.0.0.1:6379"
MACHINE = {
    "lo": ["127.0.0.1", "::1"],
    "docker0": ["172.17.0.1"],
    "eth0": ["192.168.1.5", "fd00::5"],
    "ib0": ["10.0.0.2"],
    "eth1": ["fd00:1::2"],
}


@pytest.fixture(autouse=True)
def _way_to_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interface, "_own_address_towards", {HEAD: "10.0.0.2", "[fd00::1]:6379": "fd00:1::2"}.get)


@pytest.mark.parametrize(
    ("node", "name"), [("192.168.1.5", "eth0"), ("10.0.0.2", "ib0"), ("fd00:1::2", "eth1"), ("FD00:0::5", "eth0")]
)
def test_gloo_and_nccl_take_the_interface_of_the_nodes_address_by_its_whole_name(node: str, name: str) -> None:
    environment: dict[str, str] = {}
    bind_interface(node, HEAD, MACHINE, environment)
    assert environment == {"GLOO_SOCKET_IFNAME": name, "NCCL_SOCKET_IFNAME": f"={name}"}


def test_what_the_environment_says_stays_and_the_address_is_one_of_that_interface() -> None:
    environment = {"GLOO_SOCKET_IFNAME": "eth0"}
    assert bind_interface("10.0.0.2", HEAD, MACHINE, environment) == "192.168.1.5"
    assert environment["GLOO_SOCKET_IFNAME"] == "eth0"
    both = {"GLOO_SOCKET_IFNAME": "eth0", "NCCL_SOCKET_IFNAME": "ib"}
    bind_interface("10.0.0.2", HEAD, MACHINE, both)
    assert both == {"GLOO_SOCKET_IFNAME": "eth0", "NCCL_SOCKET_IFNAME": "ib"}


def test_a_node_address_that_no_interface_has_is_replaced_by_the_one_towards_the_head() -> None:
    environment: dict[str, str] = {}
    assert bind_interface("203.0.113.9", HEAD, MACHINE, environment) == "10.0.0.2"
    assert environment["GLOO_SOCKET_IFNAME"] == "ib0"
    assert bind_interface("203.0.113.9", "[fd00::1]:6379", MACHINE, {}) == "fd00:1::2"


def test_nothing_is_set_where_nothing_is_found_and_loopback_is_left_to_nccl() -> None:
    environment: dict[str, str] = {}
    assert bind_interface("203.0.113.9", "10.9.9.9:6379", MACHINE, environment) is None
    assert environment == {}
    assert bind_interface("127.0.0.1", "127.0.0.1:6379", MACHINE, environment) == "127.0.0.1"
    assert environment == {"GLOO_SOCKET_IFNAME": "lo"}


def test_this_machine_has_a_loopback_interface_and_no_address_of_one_link_only() -> None:
    found = interfaces_of_this_machine()
    assert any("127.0.0.1" in addresses for addresses in found.values())
    assert not any("%" in address for addresses in found.values() for address in addresses)
