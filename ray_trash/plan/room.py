"""Whether what a config asks for can be had: the planners that training and sweeps use, on what there is.

Nothing here loads torch unless the command's own process is to train: who asks for too much hears so at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import ray

from ray_trash.cluster.capacity import TrialPlan, WorkerPlan, plan_trials, plan_workers
from ray_trash.cluster.connect import ray_session
from ray_trash.cluster.inventory import Inventory, inventory_here, inventory_of_cluster
from ray_trash.config import Config, Dimension
from ray_trash.terminal.say import Terminal
from ray_trash.tune.search import Point
from ray_trash.tune.space import points, require_optuna, search_space


@dataclass(frozen=True)
class SweepRoom:
    """A sweep's search space, the points known beforehand, and how trials share the cluster."""

    space: dict[str, Dimension]
    points: tuple[Point, ...]
    n_trials: int
    trials: TrialPlan


@dataclass(frozen=True)
class Room:
    """What there is, and what a run has of it; `sweep` is None for a single training."""

    inventory: Inventory
    workers: WorkerPlan
    sweep: SweepRoom | None

    @property
    def trainings_per_machine(self) -> int:
        """How many processes share a machine's processors."""
        if self.sweep is not None and self.workers.in_process:
            return self.sweep.trials.runs_per_machine
        local = -(-self.workers.workers // max(1, self.inventory.n_for_work))
        return local * (self.sweep.trials.runs_per_machine if self.sweep is not None else 1)


@contextmanager
def inventory(terminal: Terminal | None = None) -> Iterator[Inventory]:
    """List the machines of the cluster that `RAY_ADDRESS` names, connected inside the block; else count this one."""
    if ray.is_initialized() or os.environ.get("RAY_ADDRESS", "") not in ("", "local"):
        with ray_session(dashboard=False, terminal=terminal):
            yield inventory_of_cluster()
    else:
        yield inventory_here()


def find_room(config: Config, there_is: Inventory) -> Room:
    """Plan the workers, or the trials where the config has a `tune.space`.

    Raises:
        ClusterError: There is not what is asked for; both are said.
        ConfigError: The search space cannot be used.
    """
    resources, machines = there_is.resources, there_is.n_for_work
    if config.tune.space is None:
        if config.train.workers == 0:
            from ray_trash.train.run import plan_in_process

            return Room(there_is, plan_in_process(config), None)
        return Room(there_is, plan_workers(config.train, resources, machines=machines), None)
    if config.tune.search == "optuna":
        require_optuna()
    space = search_space(config)
    known = tuple(Point.of_trial(number, params) for number, params in enumerate(points(config, space)))
    n_trials = config.tune.trials if config.tune.search == "optuna" else len(known)
    trials = plan_trials(config.train, config.tune, resources, machines=machines, trials=n_trials)
    return Room(there_is, trials.workers, SweepRoom(space, known, n_trials, trials))
