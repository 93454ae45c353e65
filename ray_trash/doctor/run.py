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
from ray_trash.cluster.machines import Machine, living_machines
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
from ray_trash.doctor.facts import gather
from ray_trash.doctor.finding import Finding, checked
from ray_trash.doctor.machine import clocks, judge_machines
from ray_trash.doctor.pair import PAIR_TIMEOUT_S, check_pair
from ray_trash.doctor.places import check_storage
from ray_trash.errors import ClusterError
from ray_trash.terminal.text import counted, listed

ENGINES_TIMEOUT_S = 120.0
MACHINE_TIMEOUT_S = 60.0
"""How long a machine may take to answer, the start of a process there included."""
REACH_TIMEOUT_S = 90.0
STORAGE_TIMEOUT_S = 90.0
_WITHOUT_RAY = ("workers", "listeners")
_MOST_GAPS = 3
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
        is_own = not ray.is_initialized() and os.environ.get("RAY_ADDRESS", "") in ("", "local")
        try:
            session.enter_context(ray_session(dashboard=False))
        except ClusterError as error:
            yield Finding("Ray", "problem", str(error), "")
            yield from _without_ray(storage)
            return
        yield from _with_ray(storage, is_own=is_own, took_s=time.monotonic() - started)


def _without_ray(storage: str) -> Iterator[Finding]:
    yield from _this_machine()
    yield check_proxies(os.environ, [])
    yield checked("storage", lambda: check_storage(storage, 0, lambda _: ()), timeout_s=STORAGE_TIMEOUT_S)
    for check in _WITHOUT_RAY:
        yield Finding(check, "not checked", "needs Ray, which did not start")


def _with_ray(storage: str, *, is_own: bool, took_s: float) -> Iterator[Finding]:
    machines = living_machines()
    how = f"started here in {took_s:.0f} s" if is_own else f"joined at {ray.get_runtime_context().gcs_address}"
    cpus = f"{ray.cluster_resources().get('CPU', 0):g} CPUs"
    yield Finding("Ray", "ok", f"{ray.__version__}, {how}: {counted(len(machines), 'machine')}, {cpus}")
    yield from _this_machine() if is_own else _machines(machines)
    yield check_proxies(os.environ, [machine.address for machine in machines])
    yield checked("workers", check_pair, timeout_s=2 * PAIR_TIMEOUT_S, late="problem", advice=_OPEN_PORTS)
    if len(machines) > 1:
        yield checked("network", _check_network, timeout_s=REACH_TIMEOUT_S, late="problem", advice=_OPEN_PORTS)

    def listeners() -> Finding:
        return check_listeners(own_listeners()) if is_own else _check_servers(machines)

    def places() -> Finding:
        return _check_storage(storage, [] if is_own else machines)

    yield checked("listeners", listeners, timeout_s=2 * MACHINE_TIMEOUT_S)
    yield checked("storage", places, timeout_s=STORAGE_TIMEOUT_S, late="problem")


def _this_machine() -> Iterator[Finding]:
    found: list[Finding] = []

    def look() -> Finding:
        found.extend(judge_machines([gather()]))
        return found[0]

    # Drivers of GPUs have been seen to keep whoever asks waiting for ever.
    first = checked("machine", look, timeout_s=MACHINE_TIMEOUT_S)
    yield from found or [first]


def _machines(machines: Sequence[Machine]) -> Iterator[Finding]:
    facts, skews_s = [], []
    for machine, (answer, skew_s) in zip(machines, _ask(machines, gather), strict=True):
        if isinstance(answer, Finding):
            yield answer
        else:
            facts.append(answer)
            skews_s.append((machine.name, skew_s))
    if facts:
        yield from judge_machines(facts)
    if len(skews_s) > 1:
        yield clocks(skews_s)


def _check_network() -> Finding:
    if gaps := gaps_between_machines():
        return Finding("network", "problem", listed((gap.line() for gap in gaps), most=_MOST_GAPS))
    return Finding("network", "ok", "every machine reaches every other one on ports of the system's choice")


def _check_servers(machines: Sequence[Machine]) -> Finding:
    found: list[tuple[str, Listener]] = []
    for machine, (answer, _) in zip(machines, _ask(machines, servers_here), strict=True):
        if isinstance(answer, Finding):
            return Finding("listeners", "not checked", answer.found)
        found += [(machine.name, listener) for listener in answer]
    return check_servers(found)


def _check_storage(uri: str, machines: Sequence[Machine]) -> Finding:
    def on_machines(works: Sequence[Callable[[], Any]]) -> list[tuple[str, Any]]:
        answers = [(machine.name, _ask([machine], work)[0][0]) for machine, work in zip(machines, works, strict=True)]
        for _, answer in answers:
            if isinstance(answer, Finding):
                raise ClusterError(answer.found)
        return answers

    return check_storage(uri, len(machines), on_machines)


def _ask(machines: Sequence[Machine], work: Callable[[], Any]) -> list[tuple[Any, float]]:
    """Do work on each machine and return what it gives, and by how many seconds the clock there is ahead of this one.

    A `Finding` stands for what does not come in time.
    """

    def timed() -> tuple[Any, float]:
        return work(), time.time()

    asked: list[Any] = []
    for machine in machines:
        there = NodeAffinitySchedulingStrategy(machine.node_id, soft=False)
        asked.append(ray.remote(timed).options(num_cpus=0, scheduling_strategy=there, max_retries=0).remote())
    arrived_s: dict[Any, float] = {}
    waiting, deadline_s = list(asked), time.monotonic() + MACHINE_TIMEOUT_S
    while waiting and (left_s := deadline_s - time.monotonic()) > 0:
        ended, waiting = ray.wait(waiting, timeout=left_s)
        arrived_s |= dict.fromkeys(ended, time.time())
    found: list[tuple[Any, float]] = []
    for machine, reference in zip(machines, asked, strict=True):
        try:
            answer, then_s = ray.get(reference, timeout=0)
            found.append((answer, then_s - arrived_s[reference]))
        except ray.exceptions.GetTimeoutError:
            late = f"{machine}: no process answers there within {MACHINE_TIMEOUT_S:g} s"
            found.append((Finding("machines", "problem", late, "look at its memory, its disk and its logs"), 0.0))
        except ray.exceptions.RayError as error:
            why = f"{machine}: no process can work there: {str(error).splitlines()[-1]}"
            found.append((Finding("machines", "problem", why, "install ray-trash on every machine"), 0.0))
    return found
