"""All checks, in an order in which the cheap ones come first, and each is said as soon as it is made."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ray_trash.cluster.connect import ray_session
from ray_trash.cluster.interface import bind_this_process
from ray_trash.cluster.reach import gaps_between_machines
from ray_trash.doctor.access import (
    Listener,
    check_listeners,
    check_proxies,
    check_servers,
    check_token,
    own_listeners,
    servers_here,
)
from ray_trash.doctor.engines import check_engines
from ray_trash.doctor.facts import Facts, gather
from ray_trash.doctor.finding import Finding, checked
from ray_trash.doctor.machine import clocks, judge_machines
from ray_trash.doctor.pair import PAIR_TIMEOUT_S, check_pair
from ray_trash.doctor.places import check_storage
from ray_trash.errors import ClusterError

ENGINES_TIMEOUT_S = 120.0
MACHINE_TIMEOUT_S = 60.0
"""How long a machine may take to answer, the start of a process there included."""
REACH_TIMEOUT_S = 90.0
STORAGE_TIMEOUT_S = 90.0
_WITHOUT_RAY = ("workers", "listeners")
_OPEN_PORTS = "let machines reach one another on every port; name the interface that does in GLOO_SOCKET_IFNAME"


def examine(storage: str) -> Iterator[Finding]:
    """Check this machine, or every machine of the cluster that `RAY_ADDRESS` names, and a place for runs.

    What takes long is given up after a limit of its own, and is a finding too.
    """
    # Before Ray starts, which closes the token to others.
    token = check_token(os.environ)
    yield token
    yield checked("engines", check_engines, timeout_s=ENGINES_TIMEOUT_S)
    with ExitStack() as session:
        started = time.monotonic()
        try:
            session.enter_context(ray_session(dashboard=False))
        except ClusterError as error:
            yield Finding("Ray", "problem", str(error), "")
            yield from _without_ray(storage)
            return
        yield from _with_ray(storage, started_s=time.monotonic() - started)


def _without_ray(storage: str) -> Iterator[Finding]:
    yield from judge_machines([gather()])
    yield check_proxies(os.environ, [])
    yield checked("storage", lambda: check_storage(storage, 0, lambda _: ()), timeout_s=STORAGE_TIMEOUT_S)
    for check in _WITHOUT_RAY:
        yield Finding(check, "not checked", "needs Ray, which did not start")


def _with_ray(storage: str, *, started_s: float) -> Iterator[Finding]:
    nodes = [node for node in ray.nodes() if node["Alive"]]
    is_own = os.environ.get("RAY_ADDRESS", "") in ("", "local")
    what = f"starts here in {started_s:.0f} s" if is_own else f"joined at {os.environ['RAY_ADDRESS']}"
    cpus = ray.cluster_resources().get("CPU", 0)
    yield Finding(
        "Ray",
        "ok",
        f"Ray {ray.__version__} {what}: {len(nodes)} machines, {cpus:g} CPUs"
        if len(nodes) > 1
        else f"Ray {ray.__version__} {what}, {cpus:g} CPUs",
    )
    facts: list[Facts] = []
    skews_s: list[tuple[str, float]] = []
    lost: list[Finding] = []
    if is_own:
        facts.append(gather())
    else:
        for node, (answer, skew_s) in zip(nodes, _ask(nodes, _look), strict=True):
            if isinstance(answer, Finding):
                lost.append(answer)
            else:
                facts.append(answer)
                skews_s.append((node["NodeManagerHostname"], skew_s))
    yield from lost
    if facts:
        yield from judge_machines(facts)
    if len(skews_s) > 1:
        yield clocks(skews_s)
    yield check_proxies(os.environ, [node["NodeManagerAddress"] for node in nodes])
    yield checked("workers", check_pair, timeout_s=2 * PAIR_TIMEOUT_S, late="problem", advice=_OPEN_PORTS)
    if len(nodes) > 1:
        yield checked("network", _check_network, timeout_s=REACH_TIMEOUT_S, late="problem", advice=_OPEN_PORTS)
    yield checked(
        "listeners",
        (lambda: check_listeners(own_listeners())) if is_own else (lambda: _check_servers(nodes)),
        timeout_s=MACHINE_TIMEOUT_S + 5,
    )
    yield checked(
        "storage", lambda: _check_storage(storage, [] if is_own else nodes), timeout_s=STORAGE_TIMEOUT_S, late="problem"
    )


def _check_network() -> Finding:
    gaps = gaps_between_machines()
    if gaps:
        return Finding(
            "network",
            "problem",
            "; ".join(gap.line() for gap in gaps[:3]) + (f"; and {len(gaps) - 3} more" if len(gaps) > 3 else ""),
        )
    return Finding("network", "ok", "every machine reaches every other one on a port of the system's choice")


def _check_servers(nodes: Sequence[dict[str, Any]]) -> Finding:
    found: list[tuple[str, Listener]] = []
    for node, (answer, _) in zip(nodes, _ask(nodes, servers_here), strict=True):
        if isinstance(answer, Finding):
            return Finding("listeners", "not checked", answer.found)
        found += [(node["NodeManagerHostname"], listener) for listener in answer]
    return check_servers(found)


def _check_storage(uri: str, nodes: Sequence[dict[str, Any]]) -> Finding:
    def on_machines(works: Sequence[Callable[[], Any]]) -> list[tuple[str, Any]]:
        answers = [
            (node["NodeManagerHostname"], _ask([node], work)[0][0]) for node, work in zip(nodes, works, strict=True)
        ]
        for _, answer in answers:
            if isinstance(answer, Finding):
                raise ClusterError(answer.found)
        return answers

    return check_storage(uri, len(nodes), on_machines)


def _look() -> Facts:
    bind_this_process()
    return gather()


def _ask(nodes: Sequence[dict[str, Any]], work: Callable[[], Any]) -> list[tuple[Any, float]]:
    """Do work on each machine and return what it gives, and by how many seconds the clock there is ahead of this one.

    A `Finding` stands for what does not come in time.
    """

    def timed() -> tuple[Any, float]:
        return work(), time.time()

    asked: list[Any] = []
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        asked.append(ray.remote(timed).options(num_cpus=0, scheduling_strategy=there, max_retries=0).remote())
    arrived_s: dict[Any, float] = {}
    waiting, deadline_s = list(asked), time.monotonic() + MACHINE_TIMEOUT_S
    while waiting and (left_s := deadline_s - time.monotonic()) > 0:
        ended, waiting = ray.wait(waiting, timeout=left_s)
        arrived_s |= dict.fromkeys(ended, time.time())
    found: list[tuple[Any, float]] = []
    for node, reference in zip(nodes, asked, strict=True):
        host = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
        try:
            answer, then_s = ray.get(reference, timeout=0)
            found.append((answer, then_s - arrived_s[reference]))
        except ray.exceptions.GetTimeoutError:
            late = f"{host}: no process answers there within {MACHINE_TIMEOUT_S:g} s"
            found.append((Finding("machines", "problem", late, "look at its memory, its disk and its logs"), 0.0))
        except ray.exceptions.RayError as error:
            why = f"{host}: no process can work there: {str(error).splitlines()[-1]}"
            found.append((Finding("machines", "problem", why, "install ray-trash on every machine"), 0.0))
    return found
