"""Photos of a catalog scored by a pool of workers, each photo exactly once.

Rows of a catalog in, their probabilities in the same order out. Ray Data reads and prepares the
photos in tasks and scores them in actors. Knows no labels, splits or metrics.

Letters in shapes: B photos of a batch, N photos in all, M masks, K squares that are no photos, C classes, S side in
pixels.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import ray
import ray.data
from numpy.typing import NDArray

from ray_trash.cluster.carried import CARRIED, failed_block, nothing_carried, raise_carried_error
from ray_trash.cluster.scoring_plan import ScoringPlan, plan_scoring
from ray_trash.dataset.catalog import read_photo_bytes
from ray_trash.dataset.walk import photo_location
from ray_trash.errors import ClusterError, DataError, ImageError, RayTrashError
from ray_trash.image.mask import Mask, mask_photo
from ray_trash.image.preprocess import Preprocessing, fit_photo, load_photo
from ray_trash.storage import Storage

if TYPE_CHECKING:
    from ray_trash.model.predictor import Predictor

_ACTOR_CPUS = 0.4
"""What an actor reserves of `CPUS_PER_WORKER`; if it held all of it, the reading tasks would starve."""
_TASK_CPUS = 0.1
"""What a reading task reserves: what even one worker leaves."""
_WAIT_FOR_FREE_S = 20.0
"""How long resources that somebody else holds are waited for; Ray frees them with some delay."""
_POLL_S = 0.25

_ASKED = pa.schema(
    {
        "position": pa.int64(),
        "path": pa.string(),
        "sha256": pa.string(),
        "mask": pa.string(),
        "pixels": pa.binary(),
    }
)
"""A photo has a path and a digest, a square its pixels."""
_POSITION = pa.field("position", pa.int64())
_PREPARED = pa.schema([_POSITION, pa.field("pixels", pa.binary()), *CARRIED])
_SCORED = pa.schema([_POSITION, pa.field("probabilities", pa.list_(pa.float32())), *CARRIED])
"""What tasks and actors hand on."""


def wait_for_plan(workers: int | None, device: Literal["auto", "cpu", "cuda"]) -> ScoringPlan:
    """Plan on the connected cluster, giving what others hold a few seconds to become free.

    Raises:
        ClusterError: The cluster has too few CPUs or GPUs, or they stay taken.
    """
    plan = plan_scoring(workers, device, ray.cluster_resources())
    deadline = time.monotonic() + _WAIT_FOR_FREE_S
    while True:
        try:
            free = ray.available_resources()
            plan_scoring(plan.workers, plan.device, free)
            return plan
        except ClusterError as error:
            if time.monotonic() >= deadline:
                raise ClusterError(f"{error} (others hold the rest of the cluster)") from error
        time.sleep(_POLL_S)


@dataclass(frozen=True)
class Scores:
    """Probabilities of everything that was scored.

    Attributes:
        photos: (M, N, C) float32, in the order of the masks and the photos.
        squares: (K, C) float32, in the order of the squares.
    """

    photos: NDArray[np.float32]
    squares: NDArray[np.float32]

    def are_finite(self) -> bool:
        """Say whether every probability is a number."""
        return bool(np.isfinite(self.photos).all() and np.isfinite(self.squares).all())


def score_photos(
    checkpoint_uri: str,
    data_root: str,
    photos: pa.Table,
    preprocessing: Preprocessing,
    *,
    plan: ScoringPlan,
    precision: Literal["auto", "fp32", "bf16"],
    batch_size: int,
    masks: Sequence[Mask | None] = (None,),
    squares: NDArray[np.uint8] | None = None,
) -> Scores:
    """Score every photo once.

    The same photos and batch size give the same probabilities to the bit, on any number of workers
    of one kind: which photos share a batch follows from their order alone, and every CPU worker
    computes with one thread, since torch's sums depend on the number of threads. Speed on CPUs
    comes from more workers.

    Args:
        checkpoint_uri: A checkpoint every worker can open.
        data_root: Local path or URI every worker can open.
        photos: Columns `path` and `sha256` of at least one accepted photo.
        preprocessing: The checkpoint's.
        plan: From `wait_for_plan`, perhaps scaled.
        precision: What the network computes in.
        batch_size: Photos in one forward pass.
        masks: What to hide, once for each M; None is the photo as it is.
        squares: (K, S, S, 3), scored with the photos, so that no worker loads the network a second time.

    Raises:
        DataError: A file is not what it was when it was catalogued.
        CheckpointError: The checkpoint cannot be used.
    """
    blocks = _blocks(photos, masks, squares, batch_size)
    workers = min(plan.workers, len(blocks))
    scored = (
        ray.data.from_arrow(blocks)
        .map_batches(
            partial(_prepare_block, data_root=data_root, preprocessing=preprocessing),
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.TaskPoolStrategy(size=min(plan.readers, len(blocks))),
            num_cpus=_TASK_CPUS,
        )
        .map_batches(
            _Scorer,
            fn_constructor_args=(checkpoint_uri, plan.device, precision),
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_cpus=_ACTOR_CPUS,
            num_gpus=1 if plan.device == "cuda" else None,
        )
    )
    scored.context.enable_progress_bars = False
    scored.context.print_on_execution_start = False
    results: list[pa.Table] = []
    for block in scored.iter_batches(batch_size=None, batch_format="pyarrow"):
        raise_carried_error(block)
        results.append(block)
    collected = pa.concat_tables(results).sort_by("position")
    positions = collected.column("position").to_numpy()
    n_scored = sum(len(block) for block in blocks)
    assert np.array_equal(positions, np.arange(n_scored)), "a photo was lost or scored twice"
    scores = np.stack(collected.column("probabilities").to_numpy(zero_copy_only=False))
    n_photos = len(masks) * len(photos)
    return Scores(scores[:n_photos].reshape(len(masks), len(photos), -1), scores[n_photos:])


def _blocks(
    photos: pa.Table, masks: Sequence[Mask | None], squares: NDArray[np.uint8] | None, batch_size: int
) -> list[pa.Table]:
    # One block a batch, and whole blocks are handed on: with a batch size there, Ray Data would fill batches from
    # whatever blocks happen to be ready.
    parts = [[photos["path"], photos["sha256"], [mask] * len(photos), [None] * len(photos)] for mask in masks]
    if squares is not None:
        nothing = [None] * len(squares)
        parts.append([nothing, nothing, nothing, [square.tobytes() for square in squares]])
    blocks: list[pa.Table] = []
    position = 0
    for columns in parts:
        n = len(columns[0])
        part = pa.table([pa.array(range(position, position + n), pa.int64()), *columns], schema=_ASKED)
        blocks += [part.slice(start, batch_size) for start in range(0, n, batch_size)]
        position += n
    return blocks


class _Scorer:
    """One worker's network."""

    def __init__(self, checkpoint_uri: str, device: str, precision: str) -> None:
        self._arguments: tuple[Any, ...] = (checkpoint_uri, device, precision)
        self._predictor: Predictor | None = None

    def __call__(self, block: pa.Table) -> pa.Table:
        positions = block.column("position")
        try:
            raise_carried_error(block)
            # Not in __init__: an actor whose constructor fails is started again and again.
            if self._predictor is None:
                self._predictor = _load_predictor(*self._arguments)
        except RayTrashError as error:
            return failed_block(_SCORED, positions, error)
        side_px = self._predictor.document.preprocessing.size_px
        pixels = [np.frombuffer(value.as_buffer(), np.uint8) for value in block.column("pixels")]
        photos = np.stack(pixels).reshape(-1, side_px, side_px, 3)  # (B, S, S, 3)
        probabilities = self._predictor.predict(photos)  # (B, C)
        return _block(_SCORED, positions, list(probabilities))


def _load_predictor(checkpoint_uri: str, device: Any, precision: Any) -> Predictor:
    # The reading tasks import this module too, and have no use for the seconds that torch takes.
    from ray_trash.model.predictor import Predictor

    return Predictor.load(
        checkpoint_uri,
        device=device,
        precision=precision,
        n_threads=1 if device == "cpu" else None,
    )


def _prepare_block(block: pa.Table, *, data_root: str, preprocessing: Preprocessing) -> pa.Table:
    if block["path"].null_count == len(block):
        return _block(_PREPARED, block.column("position"), block.column("pixels").to_pylist())
    try:
        storage = Storage.at(data_root)
        photos = [
            _prepare_photo(storage, path, sha256, preprocessing, mask)
            for path, sha256, mask in zip(
                *(block[name].to_pylist() for name in ("path", "sha256", "mask")), strict=True
            )
        ]
    except RayTrashError as error:
        return failed_block(_PREPARED, block.column("position"), error)
    return _block(_PREPARED, block.column("position"), [photo.tobytes() for photo in photos])


def _prepare_photo(
    storage: Storage, path: str, sha256: str, preprocessing: Preprocessing, mask: Mask | None
) -> NDArray[np.uint8]:
    try:
        encoded = read_photo_bytes(storage.filesystem, photo_location(storage.path, path))
        if hashlib.sha256(encoded).hexdigest() != sha256:
            raise DataError(f"{path}: changed while it was evaluated; evaluate again")
        return mask_photo(fit_photo(load_photo(encoded, preprocessing), preprocessing), mask, preprocessing)
    except ImageError as error:
        raise DataError(f"{path}: changed while it was evaluated ({error.code}: {error}); evaluate again") from error


def _block(schema: pa.Schema, positions: pa.ChunkedArray, values: list[Any]) -> pa.Table:
    return pa.table([positions, pa.array(values, schema.types[1]), *nothing_carried(len(positions))], schema=schema)
