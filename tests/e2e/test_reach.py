"""Two hosts without Ray: what keeps them from computing together, and what does not."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import pytest

from tests.e2e.hosts import Host, hosts, missing

MEET = """
import datetime, os, sys
import torch
import torch.distributed as group
from ray_trash.cluster.interface import bind_interface, interfaces_of_this_machine
rank, own, first = sys.argv[1:]
bind_interface(own, f"[{first}]:6379", interfaces_of_this_machine(), os.environ)
os.environ.update(MASTER_ADDR=first, MASTER_PORT="29500", RANK=rank, WORLD_SIZE="2")
group.init_process_group("gloo", timeout=datetime.timedelta(seconds=60))
sum = torch.ones(1_000_000)
group.all_reduce(sum)
print(int(sum[-1]))
"""
LISTEN = """
import sys, time
from ray_trash.cluster import reach
reach.bind_this_process = lambda: (sys.argv[1], True)
print(reach.listen().port, flush=True)
time.sleep(60)
"""
TRY = """
import sys
from ray_trash.cluster.reach import Listener, try_all
for gap in try_all([Listener("machine-1", sys.argv[1], int(sys.argv[2]))]):
    print(gap.reason)
"""


@pytest.fixture
def pair() -> Iterator[list[Host]]:
    if lack := missing():
        pytest.skip(lack)
    with hosts(2) as switched_on:
        yield switched_on


def test_hosts_whose_names_are_loopback_addresses_meet_by_ipv4_and_where_there_is_only_ipv6(pair: list[Host]) -> None:
    assert meet(pair, [host.address for host in pair]) == ["2", "2"]
    only_ipv6 = ["fd00:99::1", "fd00:99::2"]
    for host, address in zip(pair, only_ipv6, strict=True):
        host.readdress(f"{address}/64")
    assert meet(pair, only_ipv6) == ["2", "2"]


def test_what_is_swallowed_is_told_and_large_packets_alone_are_told_apart(pair: list[Host]) -> None:
    one, two = pair
    listening = one.start(sys.executable, "-c", LISTEN, one.address)
    assert listening.stdout is not None
    port = listening.stdout.readline().strip()

    def reason() -> str:
        return two.run(sys.executable, "-c", TRY, one.address, port).stdout.strip()

    assert reason() == ""
    for host in pair:
        host.swallow_packets(1000)
    assert reason().startswith("no answer within 10 s to 64 KiB, though a connection was made")
    one.cut()
    assert reason() == "no answer within 10 s"


def meet(machines: Sequence[Host], addresses: Sequence[str]) -> list[str]:
    """Have a process on each host join one group, and return what each of them found the sum of all to be."""
    started = [
        host.start(sys.executable, "-c", MEET, rank, address, addresses[0])
        for rank, (host, address) in enumerate(zip(machines, addresses, strict=True))
    ]
    return [child.communicate(timeout=120)[0].strip() for child in started]
