"""Photos of a catalogue scored exactly once each, equal to the bit on any number of workers of one kind.

Letters in shapes: N photos, M masks, K squares that are no photos, C classes, S side in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ray_trash.cluster.capacity import ScoringPlan
from ray_trash.dataset.columns import table_of
from ray_trash.image.mask import Mask
from ray_trash.score.inputs import Source
from ray_trash.score.pool import Computation, score_blocks
from ray_trash.score.work import WORK_SCHEMA
from ray_trash.terminal.bar import Bar
from ray_trash.terminal.say import Terminal


@dataclass(frozen=True)
class Scores:
    """Probabilities of everything that was scored, in the order given: (M, N, C) of photos, (K, C) of squares."""

    photos: NDArray[np.float32]
    squares: NDArray[np.float32]

    def are_finite(self) -> bool:
        """Say whether every probability is a number."""
        return bool(np.isfinite(self.photos).all() and np.isfinite(self.squares).all())


def score_photos(
    computation: Computation,
    data_root: str,
    photos: pa.Table,
    *,
    plan: ScoringPlan,
    masks: Sequence[Mask | None] = (None,),
    squares: NDArray[np.uint8] | None = None,
    terminal: Terminal | None = None,
) -> Scores:
    """Score every photo once; needs a connection to Ray.

    Which photos share a batch follows from their order alone, and every CPU worker computes with one thread, since
    torch's sums depend on the number of threads: speed on CPUs comes from more workers.

    Args:
        computation: Of torch and fp32 for figures that compare across machines.
        data_root: Local path or URI every worker can open.
        photos: Columns `path` and `sha256` of at least one accepted photo.
        plan: Who scores, with one thread each.
        masks: What to hide, once for each M; None is the photo as it is.
        squares: (K, S, S, 3), scored with the photos, so that no worker loads the network a second time.
        terminal: Is told how far this has come.

    Raises:
        DataError: A file is not what it was when it was catalogued.
        CheckpointError: The checkpoint cannot be used.
    """
    n, n_squares = len(photos), 0 if squares is None else len(squares)
    asked = [_of_photos(photos, mask, first=number * n) for number, mask in enumerate(masks)]
    if squares is not None:
        pixels = pa.array([square.tobytes() for square in squares], pa.large_binary())
        asked.append(table_of({"position": _positions(len(masks) * n, n_squares), "pixels": pixels}, WORK_SCHEMA))
    size = computation.batch_photos
    blocks = [table.slice(start, size) for table in asked for start in range(0, len(table), size)]
    scored: list[pa.Table] = []
    what = "photos" if len(asked) == 1 else "pictures"  # masked ones, and drawn ones, are no other photos
    with Bar(terminal or Terminal.silent(), total=sum(map(len, asked)), noun=what, doing="scoring") as bar:
        for outcomes in score_blocks(computation, (Source(data_root, data_root),), blocks, plan):
            scored.append(outcomes.table)
            bar.advance(len(outcomes.table))
    collected = pa.concat_tables(scored).sort_by("position")
    expected = np.arange(len(masks) * n + n_squares)
    assert np.array_equal(collected["position"].to_numpy(), expected), "a photo was lost or scored twice"
    scores = np.stack(collected["probabilities"].to_numpy(zero_copy_only=False))
    return Scores(scores[: len(masks) * n].reshape(len(masks), n, -1), scores[len(masks) * n :])


def _of_photos(photos: pa.Table, mask: Mask | None, *, first: int) -> pa.Table:
    n = len(photos)
    columns = {
        "position": _positions(first, n),
        "source": pa.array([0] * n, pa.int32()),
        "place": photos["path"],
        "sha256": photos["sha256"],
        "mask": pa.array([mask] * n, pa.string()),
    }
    return table_of(columns, WORK_SCHEMA)


def _positions(first: int, n: int) -> pa.Array:
    return pa.array(range(first, first + n), pa.int64())
