"""What the processes of a scoring run: reading tasks, decoding tasks before GPUs, and workers with a network each.

Blocks of work in, outcomes out. Knows nothing of how many of them there are, or what becomes of the outcomes.

Letters in shapes: B photos of a batch, C classes, S side in pixels.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ray_trash.cluster.carried import CARRIED, failed_block, nothing_carried, raise_carried_error
from ray_trash.errors import ImageError, RayTrashError
from ray_trash.image.preprocess import Preprocessing
from ray_trash.score.inputs import BATCH_PHOTOS, Source
from ray_trash.score.reading import TAKEN_SCHEMA, PhotoReader, take_rows
from ray_trash.score.rows import OUTCOME_SCHEMA, answered, refused

if TYPE_CHECKING:
    from ray_trash.model.predictor import Predictor

_TAKEN = pa.schema([*TAKEN_SCHEMA, *CARRIED])
_PREPARED = pa.schema(
    [
        pa.field("position", pa.int64()),
        pa.field("pixels", pa.large_binary()),
        pa.field("error_code", pa.string()),
        pa.field("error_message", pa.string()),
        *CARRIED,
    ]
)
_SCORED = pa.schema([*OUTCOME_SCHEMA, pa.field("engine", pa.string()), *CARRIED])
"""What tasks and workers hand on."""


class Scorer:
    """One worker's network; called by several threads at a time."""

    def __init__(
        self, checkpoint_uri: str, sources: Sequence[Source], device: Literal["cpu", "cuda"], n_threads: int
    ) -> None:
        """Load nothing yet.

        Args:
            checkpoint_uri: Where the checkpoint is.
            sources: What the work is of.
            device: Where to compute.
            n_threads: CPU threads, of which no more than this process may use are used.
        """
        self._checkpoint_uri, self._device, self._n_threads = checkpoint_uri, device, min(n_threads, _own_cpus())
        self._reader = PhotoReader(sources, decoders=self._n_threads)
        self._predictor: Predictor | None = None
        self._loading, self._computing = threading.Lock(), threading.Lock()

    def __call__(self, block: pa.Table) -> pa.Table:
        """Score a block: work, or what a task has made of it."""
        try:
            raise_carried_error(block)
            # Not in __init__: an actor whose constructor fails is started again and again.
            with self._loading:
                if self._predictor is None:
                    self._predictor = self._load()
            starts = range(0, len(block), BATCH_PHOTOS)
            parts = [self._score(block.slice(start, BATCH_PHOTOS), self._predictor) for start in starts]
        except RayTrashError as error:
            return failed_block(_SCORED, block["position"], error)
        table, n = pa.concat_tables(parts), len(block)
        engine = pa.array([self._predictor.plan.name] * n, pa.string())
        return pa.table([*table.columns, engine, *nothing_carried(n)], schema=_SCORED)

    def _load(self) -> Predictor:
        # The reading tasks import this module too, and have no use for the seconds that torch takes.
        from ray_trash.model.predictor import Predictor

        n_threads = self._n_threads if self._device == "cpu" else None
        return Predictor.load(self._checkpoint_uri, engine="auto", device=self._device, n_threads=n_threads)

    def _score(self, block: pa.Table, predictor: Predictor) -> pa.Table:
        document = predictor.document
        if "pixels" in block.column_names:
            prepared = _unpacked(block, document.preprocessing.size_px)
        else:
            prepared = self._reader.prepare(_taken(block), document.preprocessing)
        positions = np.asarray(block["position"])
        is_photo = np.array([not isinstance(photo, ImageError) for photo in prepared])
        errors = [photo for photo in prepared if isinstance(photo, ImageError)]
        bad = refused(positions[~is_photo].tolist(), [error.code for error in errors], [str(e) for e in errors])
        squares = [photo for photo in prepared if not isinstance(photo, ImageError)]
        if not squares:
            return bad
        with self._computing:
            probabilities = predictor.predict(np.stack(squares))  # (B, C)
        abstained = document.calibration.abstains(probabilities)
        good = answered(positions[is_photo], probabilities, abstained, document.classes)
        return pa.concat_tables([good, bad])


def _own_cpus() -> int:
    # What Ray counts as CPUs may be more than there are.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def take_block(block: pa.Table, *, sources: Sequence[Source]) -> Iterator[pa.Table]:
    """Read the photos that are in tables."""
    try:
        for taken in take_rows(block, sources=sources):
            yield pa.table([*taken.columns, *nothing_carried(len(taken))], schema=_TAKEN)
    except RayTrashError as error:
        yield failed_block(_TAKEN, pa.chunked_array([[None]], pa.int64()), error)


def prepare_block(block: pa.Table, *, sources: Sequence[Source], preprocessing: Preprocessing) -> Iterator[pa.Table]:
    """Read and decode photos, a batch at a time."""
    reader = PhotoReader(sources)
    try:
        raise_carried_error(block)
        for start in range(0, len(block), BATCH_PHOTOS):
            batch = block.slice(start, BATCH_PHOTOS)
            yield _prepared(batch, reader.prepare(_taken(batch), preprocessing))
    except RayTrashError as error:
        yield failed_block(_PREPARED, block["position"], error)
    finally:
        reader.close()


def _prepared(block: pa.Table, prepared: Sequence[NDArray[np.uint8] | ImageError]) -> pa.Table:
    errors = [photo if isinstance(photo, ImageError) else None for photo in prepared]
    columns = [
        block["position"],
        [None if isinstance(photo, ImageError) else photo.tobytes() for photo in prepared],
        [error and error.code for error in errors],
        [error and str(error) for error in errors],
        *nothing_carried(len(block)),
    ]
    return pa.table(columns, schema=_PREPARED)


def _taken(block: pa.Table) -> pa.Table:
    if "encoded" in block.column_names:
        return block
    return block.append_column(TAKEN_SCHEMA.field("encoded"), pa.nulls(len(block), pa.large_binary()))


def _unpacked(block: pa.Table, side_px: int) -> list[NDArray[np.uint8] | ImageError]:
    found: list[NDArray[np.uint8] | ImageError] = []
    for pixels, code, message in zip(
        block["pixels"], block["error_code"].to_pylist(), block["error_message"].to_pylist(), strict=True
    ):
        if code is None:
            found.append(np.frombuffer(pixels.as_buffer(), np.uint8).reshape(side_px, side_px, 3))
        else:
            found.append(ImageError(code, message))
    return found
