"""Starting the workers of a run, and starting them again: when one dies, when machines go, and when more come.

Ray Train could do that itself, in the words and at the moments of its own: it takes a machine that has just gone for
one that lives, resizes without a warning to the workers, reserves all CPUs, and waits for machines without end. So
each start is one of its runs, and what comes between two of them is decided here, in the driver, where looking around
costs training nothing.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import suppress

from ray.exceptions import RayError
from ray.train import ControllerError, WorkerGroupError

from ray_trash.cluster.capacity import WorkerPlan, plan_workers
from ray_trash.cluster.growing import most_workers, wait_for_machines, wanted_bundles
from ray_trash.cluster.machines import draining_machines, is_listening, resources_of, usable_machines
from ray_trash.config import TrainConfig, override
from ray_trash.errors import ClusterError, RayTrashError
from ray_trash.terminal.text import counted, last_line, shortened
from ray_trash.train.board import Board
from ray_trash.train.job import TrainJob
from ray_trash.train.shared_board import SharedBoard
from ray_trash.train.stretches import Stretches

WORKER_START_ATTEMPTS = 2
"""Ray waits 60 s for workers each time; then the cluster is taken to be full of other work."""
WAIT_FOR_MACHINES_S = 300.0
"""How long a run waits for machines that went while it ran, unless `train.wait_for_workers_s` says more or less: as
long as a cloud takes to replace one."""
LOOK_EVERY_S = 2.0
"""How often the driver looks for machines that come or are taken away; a spot machine's notice is 30 s or more."""
GROW_AFTER_S = 30.0
"""How long workers train before more are taken: a change costs them a start."""

_LONGEST_REASON = 160
"""Characters of what one worker ended with."""

Fit = Callable[[WorkerPlan, int, Callable[[], None]], None]
"""Trains with the workers of a plan, for the so-manieth time, calling what it is given every now and then."""


def supervise(
    job: TrainJob, plan: WorkerPlan, fit: Fit, stretches: Stretches, say: Callable[[str], None], *, elastic: bool
) -> None:
    """Train until the run is over; workers' number stays that of the plan unless it is `elastic`.

    Raises:
        ClusterError: The workers do not start, or machines that went do not come back.
        RayTrashError: Workers died more often than `train.max_worker_failures`, or the error that ended the run.
    """
    train = override(job.config, {"train.device": job.device}).train
    failures = failed_starts = number = 0
    while True:
        number += 1
        watch = Watch(job.board, train, plan, elastic=elastic)
        n_steps = stretches.n_steps
        try:
            fit(plan, number, watch.look)
            job.board.outcome().value()
            if not job.board.begin():
                return
            stretches.why = watch.why
        except ControllerError as error:
            failed_starts += 1
            # That workers do not reach one another stays so, unless a machine has just gone.
            if isinstance(error.controller_failure, ClusterError) and not _lost_machines():
                raise error.controller_failure from error
            if failed_starts >= WORKER_START_ATTEMPTS:
                raise ClusterError(
                    f"the workers did not start: {last_line(error.controller_failure)}; is the cluster busy with "
                    "other work?"
                ) from error
            stretches.why = "the workers did not start"
        except WorkerGroupError as error:
            job.board.outcome().value()  # an error of ours says more than what became of the workers
            stretches.why, is_machine = _why(error, job.board, watch)
            if job.board.begin():
                stretches.why = watch.why  # they had saved; their machine went while they were put away
            else:
                # A machine that goes is no fault of the run, unless that happens before it gets anywhere.
                failures += not is_machine or stretches.n_steps == n_steps
            if failures > train.max_worker_failures:
                raise RayTrashError(
                    f"training gave up after {counted(train.max_worker_failures, 'restart')} of its workers: "
                    f"{stretches.why}; what is complete stays in {job.run_uri}, go on with --resume"
                ) from error
        if stretches.n_steps > n_steps:
            failed_starts = 0
        plan = _plan_again(train, say, fixed=None if elastic else plan.workers, run_uri=job.run_uri)


def _why(error: WorkerGroupError, board: Board | SharedBoard, watch: Watch) -> tuple[str, bool]:
    """Say why workers ended, and whether a machine is what went."""
    if watch.why:
        return f"{watch.why}, before all was saved", True
    there = {machine.node_id for machine in usable_machines(answers=is_listening)}
    gone = len(board.nodes() - there)
    if gone:
        return f"{counted(gone, 'machine')} gone", True
    return "; ".join(f"worker {rank}: {_brief(why)}" for rank, why in sorted(error.worker_failures.items())), False


def _lost_machines() -> int:
    return len(usable_machines()) - len(usable_machines(answers=is_listening))


def _brief(why: Exception) -> str:
    # Libraries begin with the place in their source, and Ray ends with all that may have been.
    return shortened(re.sub(r"^\[\S+:\d+\]\s*", "", last_line(why)), _LONGEST_REASON)


def _plan_again(train: TrainConfig, say: Callable[[str], None], *, fixed: int | None, run_uri: str) -> WorkerPlan:
    """Plan the workers of a run that goes on, on the machines that are there, waiting for as many as it needs."""
    given = train.wait_for_workers_s
    wait_s = given if isinstance(given, float) and given > 0 else WAIT_FOR_MACHINES_S

    def plan() -> WorkerPlan:
        machines = usable_machines(answers=is_listening)
        return plan_workers(train, resources_of(machines), machines=len(machines), fixed=fixed)

    wanted = wanted_bundles(train, most_workers(train) if fixed is None else fixed)
    try:
        return wait_for_machines(plan, wanted, wait=wait_s, say=say)
    except ClusterError as error:
        raise ClusterError(
            f"{error}; what is complete stays in {run_uri}: go on with --resume when there are enough"
        ) from error


class Watch:
    """Looks around while workers train, and has them save and stop where machines go or come; then `why` says it."""

    def __init__(self, board: Board | SharedBoard, train: TrainConfig, plan: WorkerPlan, *, elastic: bool) -> None:
        """Look after the workers of a plan."""
        self._board, self._train, self._plan, self._elastic = board, train, plan, elastic
        self._next_look = 0.0
        self._began_at: float | None = None
        self.why = ""

    def look(self) -> None:
        """Look around, if it is time to."""
        now = time.monotonic()
        if self.why or now < self._next_look:
            return
        self._next_look = now + LOOK_EVERY_S
        # A cluster that does not answer now is asked again; that it has gone is noticed elsewhere.
        with suppress(ClusterError, RayError):
            self.why = self._reason(now)
            if self.why:
                self._board.ask_to_stop()

    def _reason(self, now: float) -> str:
        nodes = self._board.nodes()
        if not nodes:
            return ""  # they have not begun
        if self._began_at is None:
            self._began_at = now
        leaving = len(nodes & draining_machines())
        if leaving:
            return f"{counted(leaving, 'machine')} being taken away"
        if not self._elastic or self._plan.workers == self._train.sharers(0) or now < self._began_at + GROW_AFTER_S:
            return ""
        machines = usable_machines()
        possible = plan_workers(self._train, resources_of(machines), machines=len(machines)).workers
        return f"room for {counted(possible, 'worker')}" if possible > self._plan.workers else ""
