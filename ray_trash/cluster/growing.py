"""Waiting for machines: those that an autoscaler is asked for, and those that are just joining."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Literal, TypeVar

import ray
from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
from ray.autoscaler._private.util import format_readonly_node_type
from ray.autoscaler.v2.sdk import get_cluster_status
from ray.autoscaler.v2.utils import is_autoscaler_v2
from ray.experimental.internal_kv import _internal_kv_get, internal_kv_get_gcs_client

from ray_trash.cluster.capacity import (
    Bundle,
    ScoringPlan,
    TrialPlan,
    WorkerPlan,
    bundle,
    count_machines,
    machine_cpus,
    most_at_once,
    plan_scoring,
    plan_trials,
    plan_workers,
    workers_of_trial,
)
from ray_trash.cluster.ending import cluster_is_ours
from ray_trash.cluster.head import lost_head
from ray_trash.cluster.keeper import keep, let_go, settle_here
from ray_trash.cluster.machines import living_machines
from ray_trash.cluster.shares import LEFT_TO_READING_CPUS, SCORE_WORKER_CPUS
from ray_trash.config import TrainConfig, TuneConfig
from ray_trash.errors import ClusterError

GROWING_S = 600.0
"""How long `auto` waits where an autoscaler is: a cloud's machine, its image and its set-up take minutes."""
JOINING_S = 60.0
"""How long another machine is expected after one has joined, or on a head without CPUs, which is never all there is."""
FIRST_REPORT_S = 15.0
"""How long a head may take to say whether it has an autoscaler; it does so every five seconds."""
SAY_EVERY_S = 30.0
POLL_S = 1.0
ANSWER_S = 30.0
"""How long the head may take to list its machines."""

Wait = Literal["auto"] | float
"""Seconds to wait for machines at most. `auto` is `GROWING_S` or `JOINING_S`, where there is something to wait for."""
Plan = TypeVar("Plan")

_ASKED = threading.Event()
_OWN_TYPE = format_readonly_node_type("")


def wait_for_workers(train: TrainConfig, say: Callable[[str], None]) -> WorkerPlan:
    """Plan on the connected cluster, once it has grown if it has to; see `train.wait_for_workers_s`."""
    return wait_for_machines(
        lambda: plan_workers(train, ray.cluster_resources(), machines=count_machines()),
        wanted_bundles(train, most_workers(train)),
        wait=train.wait_for_workers_s,
        say=say,
        is_all=lambda plan: plan.workers >= most_workers(train) and plan.cpus_per_worker >= _wanted_cpus(train),
    )


def wait_for_trials(train: TrainConfig, tune: TuneConfig, trials: int, say: Callable[[str], None]) -> TrialPlan:
    """Plan on the connected cluster, once it has grown if it has to; see `train.wait_for_workers_s`.

    An autoscaler is asked for all trials that may run at the same time, and the sweep begins with those that fit.
    """
    at_once = most_at_once(tune, trials)
    return wait_for_machines(
        lambda: plan_trials(train, tune, ray.cluster_resources(), machines=count_machines(), trials=trials),
        wanted_bundles(train, at_once * workers_of_trial(train)),
        wait=train.wait_for_workers_s,
        say=say,
        is_all=lambda plan: plan.concurrent >= at_once,
    )


def wait_for_scoring(
    workers: int | None,
    device: Literal["auto", "cpu", "cuda"],
    *,
    one_thread_each: bool,
    wait: Wait,
    say: Callable[[str], None],
) -> ScoringPlan:
    """Decide workers and device for the connected cluster, as `plan_scoring` does, once it has grown if it has to.

    An autoscaler is asked for room for `workers`, or for one.
    """
    return wait_for_machines(
        lambda: plan_scoring(
            workers,
            device,
            machine_cpus(),
            int(ray.cluster_resources().get("GPU", 0)),
            one_thread_each=one_thread_each,
        ),
        [bundle(SCORE_WORKER_CPUS, device)] * (workers or 1) + [{"CPU": LEFT_TO_READING_CPUS}],
        wait=wait,
        say=say,
    )


def wanted_bundles(train: TrainConfig, workers: int) -> list[Bundle]:
    """List what plans would find room for: each training worker's share, and that of reading."""
    return [bundle(_wanted_cpus(train), train.device)] * workers + [{"CPU": LEFT_TO_READING_CPUS}]


def most_workers(train: TrainConfig) -> int:
    """Return how many workers a config asks machines for; `auto` takes those that are there, and needs one."""
    most = train.workers[1] if isinstance(train.workers, tuple) else train.workers
    return 1 if most == "auto" else most


def _wanted_cpus(train: TrainConfig) -> float:
    return 1.0 if train.cpus_per_worker == "auto" else train.cpus_per_worker


def wait_for_machines(
    plan: Callable[[], Plan],
    wanted: Sequence[Bundle],
    *,
    wait: Wait,
    say: Callable[[str], None],
    is_all: Callable[[Plan], bool] = lambda _: True,
) -> Plan:
    """Plan on the connected cluster; where that fails, have it grow and wait until it succeeds.

    Args:
        plan: Raises a `ClusterError` while the cluster is too small.
        wanted: What an autoscaler is asked for, to be held until `holding_machines` ends.
        wait: How long to wait at most.
        say: Is told what is waited for, at once and then every `SAY_EVERY_S`.
        is_all: Whether a plan has all that was asked for. Where an autoscaler has been asked and the plan has less, a
            further machine is waited for as long as one has joined within `JOINING_S`.

    Raises:
        ClusterError: The cluster did not grow in time, or nothing can be expected of it.
    """
    if not cluster_is_ours() and can_grow() is not False:
        settle_here()
    began, size, grown_s, said_s, asked = time.monotonic(), _size(), 0.0, -math.inf, False
    while True:
        waited_s = time.monotonic() - began
        if (now := _size()) != size:
            size, grown_s = now, waited_s
        limit_s = _limit_s(wait, waited_s)
        try:
            found = plan()
            if not asked or is_all(found) or waited_s >= min(limit_s, grown_s + JOINING_S):
                return found
            problem = "what has come is enough to begin with, and less than was asked for"
        except ClusterError as error:
            if waited_s >= limit_s:
                if not limit_s:
                    raise
                raise ClusterError(f"{error} (waited {limit_s:.0f} s for machines)") from error
            problem = str(error)
        if not asked and can_grow():
            keep(wanted)
            _ASKED.set()
            asked = True
        if waited_s >= said_s + SAY_EVERY_S:
            whom = "machines that the autoscaler was asked for" if asked else "machines to join"
            say(f"waiting for {whom}, {waited_s:.0f} s of at most {limit_s:.0f} s: {problem}")
            said_s = waited_s
        time.sleep(min(POLL_S, max(0.0, limit_s - waited_s)))


@contextmanager
def holding_machines() -> Iterator[None]:
    """Let go, at the end of the block, of what was asked of an autoscaler inside it."""
    try:
        yield
    finally:
        if _ASKED.is_set():
            _ASKED.clear()
            # A cluster that is gone is what ended the block.
            with suppress(Exception):
                if lost_head() is None:
                    let_go()


def can_grow() -> bool | None:
    """Whether an autoscaler starts machines for the connected cluster; None where its head has not said so yet."""
    if is_autoscaler_v2():
        status = get_cluster_status(ray.get_runtime_context().gcs_address)
        return has_types(node.ray_node_type_name for node in [*status.active_nodes, *status.idle_nodes])
    report = json.loads(_internal_kv_get(DEBUG_AUTOSCALING_STATUS) or "{}").get("autoscaler_report")
    return has_types(report["node_type_mapping"].values()) if report else None


def has_types(names: Iterable[str]) -> bool | None:
    """Whether the types of a cluster's nodes are those of an autoscaler; None where there are none.

    A head without one takes every node for a type of its own, named after the node.
    """
    return any(not name.startswith(_OWN_TYPE) for name in types) if (types := list(names)) else None


def _limit_s(wait: Wait, waited_s: float) -> float:
    """Return how long to wait in all, for who has waited so long already."""
    if wait != "auto":
        return wait
    if cluster_is_ours():
        return 0.0
    grows = can_grow()
    if grows:
        return GROWING_S
    limits = [0.0 if grows is False else FIRST_REPORT_S]
    if not ray.cluster_resources().get("CPU"):
        limits.append(JOINING_S)
    return max(*limits, waited_s + JOINING_S - _last_joined_s())


def _size() -> tuple[int, float]:
    return len(living_machines()), ray.cluster_resources().get("CPU", 0.0)


def _last_joined_s() -> float:
    """Return how many seconds ago the last machine joined its head; infinite where there is but the head."""
    known = internal_kv_get_gcs_client().get_all_node_info(timeout=ANSWER_S)
    joined = [node.start_time_ms / 1000 for node in known.values() if not (node.is_head_node or node.end_time_ms)]
    return time.time() - max(joined, default=-math.inf)
