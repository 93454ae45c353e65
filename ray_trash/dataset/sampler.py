"""Which photos each worker sees in each step of an epoch: pure functions of (seed, epoch).

The order is drawn once for all workers and cut into steps, then into workers, so that the photos of a step
do not depend on how many workers share it, and without a fixed number of steps every photo is seen exactly
once an epoch.
Letters: N photos, C classes.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


def steps_in_epoch(n_photos: int, global_batch_size: int, steps_per_epoch: int | None, *, workers: int) -> int:
    """Return the optimizer steps of an epoch: those asked for, or one pass in which no worker's batch is empty."""
    return steps_per_epoch or max(1, min(-(-n_photos // global_batch_size), n_photos // workers))


def epoch_order(
    labels: NDArray[np.int64], *, seed: int, epoch: int, n_draws: int | None, balance: Literal["none", "sampler"]
) -> Rows:
    """Draw the order of an epoch over all workers.

    Of more than N draws (None: N), those beyond begin again with a new shuffle. `sampler` draws every class of the
    labels (N,), in 0..C-1, equally often, repeating the photos of small classes.

    Returns:
        Positions (n_draws,) in 0..N-1.
    """
    random = np.random.default_rng([seed, epoch, 0x5EED])
    n_draws = n_draws or len(labels)
    if balance == "none":
        return _shuffled(np.arange(len(labels)), n_draws, random)
    classes = np.unique(labels)
    per_class = -(-n_draws // len(classes))
    drawn = [_shuffled(np.flatnonzero(labels == label), per_class, random) for label in classes]
    return random.permutation(np.concatenate(drawn))[:n_draws]


def _shuffled(rows: Rows, n_draws: int, random: np.random.Generator) -> Rows:
    passes = max(1, -(-n_draws // len(rows)))
    return np.concatenate([random.permutation(rows) for _ in range(passes)])[:n_draws]


def worker_batches(order: Rows, *, steps: int, rank: int, workers: int, accumulate: int) -> list[list[Rows]]:
    """Cut an epoch's order into the batches of one worker.

    Sizes differ by at most one photo between steps, workers and accumulated batches, and no photo is
    dropped or doubled; a worker's loss must therefore be weighted by the photos of the whole step.

    Returns:
        For every optimizer step the batches of worker `rank` whose gradients are added, at most `accumulate`, none of
        them empty unless the step has fewer photos than workers.
    """
    own_steps = [np.array_split(step, workers)[rank] for step in np.array_split(order, steps)]
    return [np.array_split(own, min(accumulate, max(1, len(own)))) for own in own_steps]


def batches_per_step(n_draws: int, steps: int, *, workers: int, most: int, accumulate: int) -> int:
    """Return the batches a worker adds up in a step: as asked for, or more where fewer workers than `most` share it.

    So many more that no batch is larger than the largest of `most` workers.
    """
    step = math.ceil(n_draws / steps)
    largest = math.ceil(math.ceil(step / most) / accumulate)
    return max(accumulate, math.ceil(math.ceil(step / workers) / largest))


def step_sizes(n_draws: int, steps: int) -> list[int]:
    """Return how many photos each step has over all workers."""
    return [len(step) for step in np.array_split(np.empty(n_draws, dtype=np.int8), steps)]


def smallest_batch(n_draws: int, steps: int, *, workers: int, accumulate: int) -> int:
    """Return how many photos the smallest batch of an epoch has, as `worker_batches` cuts it."""
    own = n_draws // steps // workers
    return own // min(accumulate, max(1, own))


def worker_rows(n_photos: int, *, rank: int, workers: int) -> Rows:
    """Return the validation photos of one worker: every photo belongs to exactly one."""
    return np.arange(rank, n_photos, workers)
