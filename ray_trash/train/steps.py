"""Which photos make up the steps of an epoch, and which of them a worker trains on or validates."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from ray_trash.config import Config, TrainConfig, why_no_batch_of_one
from ray_trash.dataset.sampler import (
    Rows,
    batches_per_step,
    epoch_order,
    smallest_batch,
    step_sizes,
    steps_in_epoch,
    worker_batches,
    worker_rows,
)
from ray_trash.errors import ConfigError
from ray_trash.terminal.text import counted
from ray_trash.train.job import TrainJob
from ray_trash.train.worker import Worker


def global_batch_size(job: TrainJob, world: int) -> int:
    """Return the photos of one optimizer step over all workers, the same for all numbers of them that may train."""
    train = job.config.train
    return train.batch_size_per_worker * train.accumulate_batches * train.sharers(world)


def require_no_batch_of_one(config: Config, n_photos: int, workers: int) -> None:
    """Refuse, by a `ConfigError`, so many training photos that an epoch has a batch of one batch norm cannot take.

    Of workers that come and go every number is looked at.
    """
    train, obstacle = config.train, why_no_batch_of_one(config)
    sharers = train.sharers(workers)
    batch_size = train.batch_size_per_worker * train.accumulate_batches * sharers
    steps = steps_in_epoch(n_photos, batch_size, train.steps_per_epoch, workers=sharers)
    n_draws = n_photos if train.steps_per_epoch is None else steps * batch_size
    for size in train.sizes(workers) if obstacle else ():
        accumulate = _batches_per_step(train, n_draws, steps, size)
        if smallest_batch(n_draws, steps, workers=size, accumulate=accumulate) < 2:
            raise ConfigError(
                f"train.batch_size_per_worker={train.batch_size_per_worker}: {n_photos} photos on "
                f"{counted(size, 'worker')} leave a batch of one; {obstacle}"
            )


def _batches_per_step(train: TrainConfig, n_draws: int, steps: int, workers: int) -> int:
    most, accumulate = train.sharers(workers), train.accumulate_batches
    return batches_per_step(n_draws, steps, workers=workers, most=most, accumulate=accumulate)


@dataclass(frozen=True)
class EpochPlan:
    """The steps of one epoch.

    Attributes:
        order: Photos over all workers, as positions in the training table, to be cut into steps.
        sizes: Photos of each step over all workers.
        name: The same for two plans only if each of their steps has the same photos.
    """

    order: Rows
    sizes: list[int]
    name: str


def plan_epoch(job: TrainJob, world: int, epoch: int) -> EpochPlan:
    """Plan an epoch, from 0, for so many workers."""
    train = job.config.train
    batch_size = global_batch_size(job, world)
    steps = steps_in_epoch(len(job.train), batch_size, train.steps_per_epoch, workers=train.sharers(world))
    n_draws = len(job.train) if train.steps_per_epoch is None else steps * batch_size
    balance: Literal["none", "sampler"] = "sampler" if train.class_balance == "sampler" else "none"
    order = epoch_order(job.train.labels, seed=job.config.seed, epoch=epoch, n_draws=n_draws, balance=balance)
    digest = hashlib.sha256(job.train.keys[order].tobytes()).hexdigest()
    return EpochPlan(order, step_sizes(n_draws, steps), f"epoch {epoch}, {steps} steps, {digest}")


def own_batches(job: TrainJob, worker: Worker, plan: EpochPlan) -> list[list[Rows]]:
    """Return the batches of a worker for every step of an epoch."""
    steps = len(plan.sizes)
    accumulate = _batches_per_step(job.config.train, len(plan.order), steps, worker.world)
    return worker_batches(plan.order, steps=steps, rank=worker.rank, workers=worker.world, accumulate=accumulate)


def validation_batches(job: TrainJob, worker: Worker) -> list[Rows]:
    """Return the batches of a worker's validation photos."""
    rows = worker_rows(len(job.val), rank=worker.rank, workers=worker.world)
    size = job.config.evaluate.forward_batch_photos
    return [rows[start : start + size] for start in range(0, len(rows), size)]
