"""Photos scored by a pool of workers on a Ray cluster, through Ray Data.

Blocks of work in, outcomes out as they come, in any order. On CPUs a worker reads and decodes one batch while it
computes another, so that no core waits; before GPUs, tasks on the other cores do it.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial
from typing import Any

import pyarrow as pa
import ray.data
from ray.data.exceptions import ExecutionTimeoutError

from ray_trash.cluster.carried import raise_carried_error
from ray_trash.cluster.scoring_plan import ScoringPlan
from ray_trash.cluster.shares import READ_TASK_CPUS
from ray_trash.errors import ClusterError
from ray_trash.image.preprocess import Preprocessing
from ray_trash.score.inputs import Source
from ray_trash.score.rows import OUTCOME_SCHEMA, Outcomes
from ray_trash.score.worker import Scorer, prepare_block, take_block

NO_ANSWER_S = 600.0
"""How long the next answer may take: starting up, or waiting for what others hold of a cluster, included."""
BLOCK_BYTES = 16 << 20
"""Photos that tasks hand on at a time; keeps memory flat whatever the row groups of a table."""
_BATCHES_AT_A_TIME = 2
"""In one worker: one is decoded while the other is computed."""


def score_blocks(
    checkpoint_uri: str,
    preprocessing: Preprocessing,
    sources: Sequence[Source],
    blocks: Sequence[pa.Table],
    plan: ScoringPlan,
) -> Generator[Outcomes]:
    """Score what is in blocks of work.

    Args:
        checkpoint_uri: A checkpoint every worker can open.
        preprocessing: The checkpoint's.
        sources: What the work is of; every worker can open them.
        blocks: From `work_blocks`, at least one.
        plan: From `plan_scoring_here`.

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
            num_cpus=READ_TASK_CPUS,
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
