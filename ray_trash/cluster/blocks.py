"""Tables through Ray Data, block by block: quiet, with a deadline, and with errors of ours kept as they are.

Blocks go in, the blocks that the last step makes of them come out. A `RayTrashError` that a step raises travels in
the last column of its block, passes the steps that follow, and is raised where the blocks come out. Steps know
nothing of that.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

import pyarrow as pa

from ray_trash.cluster.here import is_connected
from ray_trash.cluster.waiting import fetch
from ray_trash.errors import ClusterError, RayTrashError

NO_ANSWER_S = 600.0
"""How long the next block may take: starting up, or waiting for what others hold of a cluster, included."""
_ERROR = pa.field("_error", pa.binary())

Made: TypeAlias = "pa.Table | Iterator[pa.Table]"
"""What a step makes of a block: a table, or several."""
Function = Callable[[pa.Table], Made]


@dataclass(frozen=True)
class Tasks:
    """A step in Ray tasks, `at_once` at a time at most (default: Ray Data's choice), each of which reserves `cpus`.

    The function goes to other processes; the schema is that of what it makes.
    """

    function: Function
    schema: pa.Schema
    cpus: float
    at_once: int | None = None


@dataclass(frozen=True)
class Actors:
    """A step in `size` processes that keep something between blocks, such as a network.

    Attributes:
        make: Makes the function of one process, at its first block; goes to other processes.
        schema: Of what the function makes.
        calls_at_once: Blocks at a time in one process, each in a thread of its own.
    """

    make: Callable[[], Function]
    schema: pa.Schema
    cpus: float
    size: int
    gpus: float = 0.0
    calls_at_once: int = 1


def map_blocks(
    blocks: Sequence[pa.Table],
    *steps: Tasks | Actors,
    what: str,
    in_order: bool = True,
    block_bytes: int | None = None,
    holds_back: bool = True,
    no_answer_s: float | None = NO_ANSWER_S,
) -> Generator[pa.Table]:
    """Send at least one block through steps, and yield what the last one makes: on Ray, or without a connection here.

    `what` is waited for, in words. At `block_bytes`, by default Ray Data's own number, a new block begins within a
    step's output. Tasks whose output waits are held back, or where `holds_back` is denied not: whoever asks for no more
    than may wait saves a third of what a block costs this process. Nothing may happen for `no_answer_s`, without end
    where it is None.

    Raises:
        ClusterError: Nothing happened for that long.
        RayTrashError: What a step raised.
    """
    if not is_connected():
        yield from map_blocks_here(blocks, *steps)
        return
    import ray.data
    from ray.data.exceptions import ExecutionTimeoutError

    # Not from_arrow: it has a task of a whole processor look at each block, and workers leave half a one.
    dataset = ray.data.from_blocks(list(blocks))
    # Of this set alone: the settings of the rest of the program stay as they are.
    context = dataset.context
    context.enable_progress_bars = context.print_on_execution_start = False
    context.execution_options.preserve_order = in_order
    context.op_resource_reservation_enabled = holds_back
    context.execution_no_progress_timeout_s = -1 if no_answer_s is None else no_answer_s
    if block_bytes is not None:
        context.target_max_block_size = block_bytes
    for step in steps:
        dataset = dataset.map_batches(**_as_ray_takes(step), batch_size=None, batch_format="pyarrow")
    try:
        # Not iter_batches: it keeps blocks back until others have come, and three threads are busy with each of them.
        for bundle in dataset.iter_internal_ref_bundles():
            for entry in bundle.blocks:
                block = cast(pa.Table, fetch(entry.ref, what=what, timeout_s=NO_ANSWER_S))
                if len(block):
                    yield _received(block)
    except ExecutionTimeoutError as error:
        raise no_answer(what) from error


def map_blocks_here(blocks: Iterable[pa.Table], *steps: Tasks | Actors) -> Iterator[pa.Table]:
    """Do what `map_blocks` does in this process, one block after another, with one of each step's processes."""
    for step in steps:
        blocks = _made_here(blocks, step.function if isinstance(step, Tasks) else step.make())
    yield from blocks


def _made_here(blocks: Iterable[pa.Table], function: Function) -> Iterator[pa.Table]:
    for block in blocks:
        made = function(block)
        yield from [made] if isinstance(made, pa.Table) else made


def no_answer(what: str) -> ClusterError:
    """Say that what was waited for did not come within `NO_ANSWER_S`."""
    return ClusterError(
        f"waited {NO_ANSWER_S:g} s for {what} in vain: others may hold the cluster, or processes may die for want "
        "of memory; look at the cluster and run the command again"
    )


def _as_ray_takes(step: Tasks | Actors) -> dict[str, Any]:
    import ray.data

    if isinstance(step, Tasks):
        return {
            "fn": _TaskStep(step.function, step.schema),
            "num_cpus": step.cpus,
            "compute": ray.data.TaskPoolStrategy(size=step.at_once),
        }
    several: dict[str, Any] = {}
    if step.calls_at_once > 1:
        several = {"max_concurrent_calls_per_actor": step.calls_at_once, "enable_true_multi_threading": True}
    return {
        "fn": _ActorStep,
        "fn_constructor_args": (step.make, step.schema),
        "num_cpus": step.cpus,
        "num_gpus": step.gpus or None,
        "compute": ray.data.ActorPoolStrategy(size=step.size, **several),
    }


def _received(block: pa.Table) -> pa.Table:
    """Return a block without what it carried, or raise that."""
    if _ERROR.name not in block.column_names:
        return block
    for carried in block[_ERROR.name].drop_null().to_pylist():
        raise pickle.loads(carried)
    return block.drop_columns([_ERROR.name])


def _run(function: Callable[[], Function], schema: pa.Schema, block: pa.Table) -> Iterator[pa.Table]:
    whole = schema.append(_ERROR)
    try:
        made = function()(_received(block))
        for table in [made] if isinstance(made, pa.Table) else made:
            yield pa.table([*table.select(schema.names).columns, pa.nulls(len(table), _ERROR.type)], schema=whole)
    except RayTrashError as error:
        nothing = [pa.nulls(1, field.type) for field in schema]
        nullable = pa.schema([field.with_nullable(True) for field in whole], whole.metadata)
        yield pa.table([*nothing, pa.array([pickle.dumps(error)], _ERROR.type)], schema=nullable)


class _TaskStep:
    def __init__(self, function: Function, schema: pa.Schema) -> None:
        self._function, self._schema = function, schema

    def __call__(self, block: pa.Table) -> Iterator[pa.Table]:
        return _run(lambda: self._function, self._schema, block)


class _ActorStep:
    def __init__(self, make: Callable[[], Function], schema: pa.Schema) -> None:
        self._make, self._schema = make, schema
        self._made: Function | None = None
        self._making = threading.Lock()

    def __call__(self, block: pa.Table) -> Iterator[pa.Table]:
        return _run(self._function, self._schema, block)

    def _function(self) -> Function:
        # Not in __init__: an actor whose constructor fails is started again and again.
        with self._making:
            if self._made is None:
                self._made = self._make()
        return self._made
