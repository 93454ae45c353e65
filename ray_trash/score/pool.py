"""Photos scored by a pool of workers on a Ray cluster, through Ray Data.

Blocks of work in, outcomes out as they come, in any order. On CPUs a worker reads and decodes one batch while it
computes another, so that no core waits; before GPUs, tasks on the other cores do it.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import pyarrow as pa
import ray
import ray.data
from ray.data.exceptions import ExecutionTimeoutError

from ray_trash.cluster.carried import raise_carried_error
from ray_trash.cluster.scoring_plan import plan_scoring
from ray_trash.errors import ClusterError
from ray_trash.image.preprocess import Preprocessing
from ray_trash.score.inputs import Source
from ray_trash.score.rows import OUTCOME_SCHEMA, Outcomes
from ray_trash.score.worker import Scorer, prepare_block, take_block

NO_ANSWER_S = 600.0
"""How long the next answer may take: starting up, or waiting for what others hold of a cluster, included."""
BLOCK_BYTES = 16 << 20
"""Photos that tasks hand on at a time; keeps memory flat whatever the row groups of a table."""
_READING_CPUS = 0.25
"""What a task reserves that only reads."""
_LEFT_CPUS = 0.5
"""What the workers of a machine leave to such tasks."""
_MIN_WORKER_CPUS = 0.4
_BATCHES_AT_A_TIME = 2
"""In one worker: one is decoded while the other is computed."""


@dataclass(frozen=True)
class PoolPlan:
    """The workers.

    Attributes:
        workers: Processes with a network each.
        device: Where each of them computes.
        n_threads: CPU threads of each.
        cpus_per_worker: What Ray reserves for each.
    """

    workers: int
    device: Literal["cpu", "cuda"]
    n_threads: int
    cpus_per_worker: float


def plan_pool(workers: int | None, machine_cpus: Sequence[float], n_gpus: int) -> PoolPlan:
    """Decide on workers.

    Args:
        workers: As asked; None takes one per GPU, or one per machine where there is none.
        machine_cpus: CPUs of each machine of the cluster that has some.
        n_gpus: GPUs of the cluster.

    Raises:
        ClusterError: There are too few CPUs or GPUs; the message says asked and available.
    """
    n_machines = max(1, len(machine_cpus))
    resources = {"CPU": sum(machine_cpus), "GPU": float(n_gpus)}
    plan = plan_scoring(workers or n_gpus or n_machines, "auto", resources)
    if plan.device == "cuda":
        return PoolPlan(plan.workers, "cuda", 1, _MIN_WORKER_CPUS)
    share = min(machine_cpus) / -(-plan.workers // n_machines)
    return PoolPlan(plan.workers, "cpu", max(1, int(share)), max(_MIN_WORKER_CPUS, share - _LEFT_CPUS))


def plan_pool_here(workers: int | None) -> PoolPlan:
    """Decide on workers for the connected cluster.

    Raises:
        ClusterError: It has too few CPUs or GPUs.
    """
    machine_cpus = [node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]]
    n_gpus = int(ray.cluster_resources().get("GPU", 0))
    return plan_pool(workers, [cpus for cpus in machine_cpus if cpus > 0], n_gpus)


def score_blocks(
    checkpoint_uri: str,
    preprocessing: Preprocessing,
    sources: Sequence[Source],
    blocks: Sequence[pa.Table],
    plan: PoolPlan,
) -> Generator[Outcomes]:
    """Score what is in blocks of work.

    Args:
        checkpoint_uri: A checkpoint every worker can open.
        preprocessing: The checkpoint's.
        sources: What the work is of; every worker can open them.
        blocks: From `work_blocks`, at least one.
        plan: From `plan_pool_here`.

    Raises:
        CheckpointError: The checkpoint cannot be used.
        ClusterError: Nothing was answered for too long.
        DataError: A table is not what it was when it was listed.
        StorageError: A source cannot be opened by a worker.
    """
    photos = _quiet(ray.data.from_arrow(list(blocks)))
    if any(source.table for source in sources):
        photos = photos.map_batches(
            partial(take_block, sources=sources),
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=_READING_CPUS,
        )
    if plan.device == "cuda":
        photos = photos.map_batches(
            partial(prepare_block, sources=sources, preprocessing=preprocessing),
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=1,
        )
    scored = photos.map_batches(
        Scorer,
        fn_constructor_args=(checkpoint_uri, sources, plan.device, plan.n_threads),
        batch_size=None,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(
            size=min(plan.workers, len(blocks)),
            max_concurrent_calls_per_actor=_BATCHES_AT_A_TIME,
            enable_true_multi_threading=True,
        ),
        num_cpus=plan.cpus_per_worker,
        num_gpus=1 if plan.device == "cuda" else None,
    )
    block: Any  # Ray Data's annotations know of no tables
    try:
        for block in scored.iter_batches(batch_size=None, batch_format="pyarrow"):
            raise_carried_error(block)
            yield Outcomes(block.select(OUTCOME_SCHEMA.names), block["engine"][0].as_py())
    except ExecutionTimeoutError as error:
        raise ClusterError(
            f"no photo was scored for {NO_ANSWER_S:g} s: others may hold the cluster, or workers may die for want of "
            "memory; look at the cluster and run the command again, which goes on"
        ) from error


def _quiet(dataset: ray.data.Dataset) -> ray.data.Dataset:
    # The dataset's own copy: the settings of the rest of the program stay as they are.
    dataset.context.enable_progress_bars = False
    dataset.context.print_on_execution_start = False
    dataset.context.target_max_block_size = BLOCK_BYTES
    dataset.context.execution_no_progress_timeout_s = NO_ANSWER_S
    return dataset
