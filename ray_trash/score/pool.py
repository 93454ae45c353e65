"""The engine room: photos scored by a pool of workers on a Ray cluster, or few of them by this process.

Blocks of work in, outcomes out as they come, in any order. On CPUs a worker reads and decodes one batch while it
computes another, so that no core waits; before GPUs, tasks on the CPUs do it.

Letters in shapes: B photos of a batch, C classes.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import pyarrow as pa

from ray_trash.cluster.blocks import Actors, Tasks, map_blocks, map_blocks_here
from ray_trash.cluster.capacity import ScoringPlan
from ray_trash.cluster.shares import DECODE_TASK_CPUS, READ_TASK_CPUS, usable_cpus
from ray_trash.dataset.columns import table_of
from ray_trash.errors import ImageError
from ray_trash.image.preprocess import Preprocessing
from ray_trash.score.inputs import Source
from ray_trash.score.reading import PhotoReader, is_prepared, prepared_squares, take_rows
from ray_trash.score.rows import OUTCOME_SCHEMA, Outcomes, answered, refused
from ray_trash.score.work import BATCH_PHOTOS, WORK_SCHEMA

BLOCK_BYTES = 16 << 20
"""Photos that tasks hand on at a time; keeps memory flat whatever the row groups of a table."""
_BATCHES_AT_ONCE = 2
"""In one worker: one is decoded while the other is computed."""
_SCORED_SCHEMA = OUTCOME_SCHEMA.append(pa.field("engine", pa.string()))


@dataclass(frozen=True)
class Computation:
    """What computes, and how: a checkpoint every worker can open, and photos of one forward pass.

    The engine `auto` is the fastest of each machine; without `views`, the checkpoint's own number is taken.
    """

    checkpoint_uri: str
    preprocessing: Preprocessing
    engine: Literal["auto", "torch"] = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    batch_photos: int = BATCH_PHOTOS
    views: Literal[1, 8] | None = None


def score_blocks(
    computation: Computation, sources: Sequence[Source], blocks: Sequence[pa.Table], plan: ScoringPlan
) -> Generator[Outcomes]:
    """Score what is in blocks of work.

    A block's rows are computed in batches from its first row on, so probabilities depend on nothing but blocks,
    engine, precision, device and the threads of a worker. There is at least one block of `WORK_SCHEMA`, each of one
    source and row group, or prepared; every worker can open the sources.

    Raises:
        CheckpointError: The checkpoint cannot be used.
        ClusterError: Nothing was scored for too long.
        DataError: A table is not what it was when it was listed, or a photo whose digest is known.
        StorageError: A source cannot be opened by a worker.
    """
    on_gpus = plan.device == "cuda" and not plan.in_process
    steps: list[Tasks | Actors] = []
    if any(source.table for source in sources):
        steps.append(Tasks(partial(take_rows, sources=sources), WORK_SCHEMA, cpus=READ_TASK_CPUS))
    if on_gpus:
        prepare = partial(prepare_block, sources=sources, computation=computation)
        steps.append(Tasks(prepare, WORK_SCHEMA, cpus=DECODE_TASK_CPUS, at_once=min(plan.readers, len(blocks))))
    workers = Actors(
        partial(Scorer, computation, sources, plan),
        _SCORED_SCHEMA,
        cpus=plan.cpus_per_worker,
        gpus=1.0 if on_gpus else 0.0,
        size=min(plan.workers, len(blocks)),
        calls_at_once=_BATCHES_AT_ONCE,
    )
    scored: Iterator[pa.Table]
    if plan.in_process:
        scored = _with_own_threads(map_blocks_here(blocks, *steps, workers))
    else:
        # A batch that is handed on is never cut.
        block_bytes = max(BLOCK_BYTES, computation.batch_photos * 3 * computation.preprocessing.size_px**2)
        scored = map_blocks(blocks, *steps, workers, what="scored photos", in_order=False, block_bytes=block_bytes)
    for block in scored:
        yield Outcomes(block.select(OUTCOME_SCHEMA.names), block["engine"][0].as_py())


def plan_here(*, one_thread: bool, device: Literal["auto", "cpu", "cuda"] = "auto") -> ScoringPlan:
    """Plan to score in this process, on its GPU where it has one; see `resolve_device`."""
    from ray_trash.model.precision import resolve_device

    on: Literal["cpu", "cuda"] = "cuda" if resolve_device(device).type == "cuda" else "cpu"
    return ScoringPlan.here(on, n_threads=1 if one_thread else usable_cpus())


def _with_own_threads(scored: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Give the rest of this process the threads back that torch had before."""
    import torch

    before = torch.get_num_threads()
    try:
        yield from scored
    finally:
        torch.set_num_threads(before)


def prepare_block(block: pa.Table, *, sources: Sequence[Source], computation: Computation) -> Iterator[pa.Table]:
    """Read and decode photos, a batch at a time."""
    if is_prepared(block):
        yield block
        return
    reader = PhotoReader(sources)
    try:
        for start in range(0, len(block), computation.batch_photos):
            batch = block.slice(start, computation.batch_photos)
            squares = reader.prepare(batch, computation.preprocessing)
            errors = [square if isinstance(square, ImageError) else None for square in squares]
            pixels = [None if isinstance(square, ImageError) else square.tobytes() for square in squares]
            columns = {
                "position": batch["position"],
                "pixels": pa.array(pixels, pa.large_binary()),
                "error_code": pa.array([error and error.code for error in errors], pa.string()),
                "error_message": pa.array([error and str(error) for error in errors], pa.string()),
            }
            yield table_of(columns, WORK_SCHEMA)
    finally:
        reader.close()


class Scorer:
    """One worker's network; called by several threads at a time."""

    def __init__(self, computation: Computation, sources: Sequence[Source], plan: ScoringPlan) -> None:
        """Load the checkpoint, or raise `CheckpointError`."""
        # The reading tasks import this module too, and have no use for the seconds that torch takes.
        from ray_trash.model.predictor import Predictor

        n_threads = min(plan.n_threads, usable_cpus())
        self._predictor = Predictor.load(
            computation.checkpoint_uri,
            engine=computation.engine,
            device=plan.device,
            precision=computation.precision,
            n_threads=n_threads if plan.device == "cpu" else None,
            views=computation.views,
        )
        self._batch_photos = computation.batch_photos
        self._reader = PhotoReader(sources, decoders=n_threads)
        # A GPU has the next batch on its way while it computes; the cores of a CPU compute one at a time.
        self._computing: AbstractContextManager[object] = threading.Lock() if plan.device == "cpu" else nullcontext()

    def __call__(self, block: pa.Table) -> pa.Table:
        """Score a block: work, or what a task has made of it."""
        starts = range(0, len(block), self._batch_photos)
        scored = pa.concat_tables([self._score(block.slice(start, self._batch_photos)) for start in starts])
        engine = pa.array([self._predictor.plan.name] * len(block), pa.string())
        return scored.append_column(_SCORED_SCHEMA.field("engine"), engine)

    def _score(self, batch: pa.Table) -> pa.Table:
        document = self._predictor.document
        read = prepared_squares if is_prepared(batch) else self._reader.prepare
        squares = read(batch, document.preprocessing)
        positions = np.asarray(batch["position"])
        is_photo = np.array([not isinstance(square, ImageError) for square in squares])
        errors = [square for square in squares if isinstance(square, ImageError)]
        bad = refused(positions[~is_photo].tolist(), [error.code for error in errors], [str(e) for e in errors])
        photos = [square for square in squares if not isinstance(square, ImageError)]
        if not photos:
            return bad
        with self._computing:
            probabilities = self._predictor.predict(np.stack(photos))  # (B, C)
        abstained = document.calibration.abstains(probabilities)
        good = answered(positions[is_photo], probabilities, abstained, document.classes)
        return pa.concat_tables([good, bad])
