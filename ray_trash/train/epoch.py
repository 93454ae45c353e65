"""One epoch of one worker: training steps, then validation, with every count added over the workers.

Letters: B photos, S side in pixels, C classes.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

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
from ray_trash.errors import ConfigError, DivergedError
from ray_trash.evaluate.metrics import ClassificationSums
from ray_trash.image.tensor import symmetries
from ray_trash.model.network import STAGES, first_stages
from ray_trash.model.resnet import ResNet
from ray_trash.terminal.text import counted
from ray_trash.train.frozen.inputs import NetworkInputs
from ray_trash.train.job import TrainJob
from ray_trash.train.loss import inverse_frequency_weights, mix, summed_loss
from ray_trash.train.progress import EpochProgress, LearningRates
from ray_trash.train.schedule import learning_rate_at
from ray_trash.train.state import TrainState
from ray_trash.train.worker import Worker

DIVERGED_LOSS = 1e3
"""A mean cross-entropy of 1,000 nats means logits in the thousands: weights that float32 still holds, and no more."""


@dataclass(frozen=True)
class TrainingFigures:
    """One epoch's training over all workers: means over its photos, and the learning rates of its first step."""

    loss: float
    accuracy: float
    images_per_s: float
    rates: LearningRates
    steps: int


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


def expect_photos(state: TrainState, job: TrainJob, worker: Worker, inputs: NetworkInputs) -> None:
    """Say which photos come after the training of this epoch, so that they are there when they are asked for."""
    inputs.expect_validation(validation_batches(job, worker))
    following = state.run.epochs_done + 1
    if following < state.run.epochs_of(job.config.train):
        steps = own_batches(job, worker, plan_epoch(job, worker.world, following))
        inputs.expect_training([positions for parts in steps for positions in parts], following)


def train_epoch(
    state: TrainState,
    job: TrainJob,
    worker: Worker,
    inputs: NetworkInputs,
    progress: EpochProgress,
    *,
    on_step: Callable[[int, int, float, float], None] | None = None,
    go_on: Callable[[int], bool] = lambda _: True,
) -> TrainingFigures | None:
    """Train from where an epoch has come to its end; every worker raises `DivergedError` at the same step.

    Which stages are frozen, and the network's mode, are the caller's. `progress` is brought forward with every step.
    `on_step` is called with step, steps, the step's mean loss on this worker, and photos per second over all workers;
    then `go_on` with the steps that are left, and where it denies, the epoch stays as it is and there are no figures.
    """
    config, train = job.config, job.config.train
    epoch, begun_at = state.run.epochs_done, progress.step
    plan = plan_epoch(job, worker.world, epoch)
    steps = len(plan.sizes)
    own = own_batches(job, worker, plan)[begun_at:]
    batches = inputs.training([positions for parts in own for positions in parts], epoch)
    class_weights = None
    if train.class_balance == "weights":
        class_weights = inverse_frequency_weights(job.train.labels, len(job.classes)).to(worker.device)
    network = _wrapped(inputs.trained_part(state.network), worker)
    n_seen, before_s, started = 0, progress.training_s, time.perf_counter()
    for step, parts in enumerate(own, start=begun_at):
        random = _seeded(config, epoch, step, worker)
        rates = _set_learning_rates(state, job, step, steps)
        progress.first_rates = progress.first_rates or rates
        step_loss = torch.zeros((), device=worker.device)
        for number, positions in enumerate(parts, start=1):
            adds_on = isinstance(network, DistributedDataParallel) and number < len(parts)
            labels = torch.from_numpy(job.train.labels[positions]).to(worker.device)
            batch = mix(next(batches), labels, config.augment, random)
            with cast(DistributedDataParallel, network).no_sync() if adds_on else nullcontext():
                with worker.autocast():
                    logits = network(batch.photos)
                loss = summed_loss(logits, batch, class_weights=class_weights, label_smoothing=train.label_smoothing)
                # DDP averages gradients over workers; this makes the result the mean over the step's photos.
                (loss * worker.world / plan.sizes[step]).backward()
            step_loss += loss.detach()
            progress.correct += float((logits.detach().argmax(1) == batch.labels).sum())
            progress.seen += len(positions)
        _take_step(state, job, float(step_loss) / plan.sizes[step], step, rates)
        progress.loss_sum += float(step_loss)
        progress.step = step + 1
        elapsed = time.perf_counter() - started
        progress.training_s = before_s + elapsed
        n_seen += plan.sizes[step]
        if on_step is not None:
            on_step(step + 1, steps, float(step_loss) / max(1, sum(map(len, parts))), n_seen / elapsed)
        if not go_on(steps - step - 1):
            return None
    sums = np.array([progress.loss_sum, progress.correct, progress.seen], dtype=np.float64)
    loss_sum, correct, seen = worker.add_up(sums)
    mean, first_rates = loss_sum / seen, progress.first_rates
    assert first_rates is not None
    if not np.isfinite(mean) or mean > DIVERGED_LOSS:
        raise diverged_error(f"the mean training loss is {mean:g}", epoch, first_rates, step=steps)
    return TrainingFigures(float(mean), float(correct / seen), float(seen / progress.training_s), first_rates, steps)


def _seeded(config: Config, epoch: int, step: int, worker: Worker) -> np.random.Generator:
    """Seed torch for one step, and return what else is drawn from in it: an epoch can be gone on with anywhere."""
    seed = [config.seed, epoch, step, worker.rank]
    torch.manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
    return np.random.default_rng([*seed, 0x301])


def _wrapped(network: nn.Module, worker: Worker) -> nn.Module:
    if worker.world == 1:
        return network
    # Batch-norm statistics are averaged once an epoch by `average_statistics`, not copied from rank 0 every step.
    return DistributedDataParallel(
        network, device_ids=[worker.device.index] if worker.device.type == "cuda" else None, broadcast_buffers=False
    )


def _set_learning_rates(state: TrainState, job: TrainJob, step: int, steps: int) -> LearningRates:
    for group in state.optimizer.param_groups:
        group["lr"] = learning_rate_at(
            state.run.steps_done + step,
            group["initial_lr"],
            job.config.train,
            total_steps=steps * state.run.epochs_of(job.config.train),
            plateau_cuts=state.run.plateau_cuts,
        )
    rates = {group["name"]: float(group["lr"]) for group in state.optimizer.param_groups}
    return LearningRates(rates.get(STAGES[-1], rates["head"]), rates["head"])


def _take_step(state: TrainState, job: TrainJob, mean_loss: float, step: int, rates: LearningRates) -> None:
    norm = nn.utils.get_total_norm([p.grad for p in state.network.parameters() if p.grad is not None])
    # Gradients are the same on every worker by now, so all of them stop here together.
    if not torch.isfinite(norm):
        what = f"the gradient is {float(norm):g} (loss {mean_loss:g})"
        raise diverged_error(what, state.run.epochs_done, rates, step=step + 1)
    limit = job.config.train.clip_gradient_norm
    if limit is not None:
        nn.utils.clip_grads_with_norm_(state.network.parameters(), limit, norm)
    state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=True)
    if state.ema is not None:
        _update_ema(state.ema, state.network, job.config.train.ema_decay, state.run.steps_done + step)


def diverged_error(what: str, epoch: int, rates: LearningRates, *, step: int | None = None) -> DivergedError:
    """Say where it diverged, and what to do; `epoch` is from 0."""
    return DivergedError(
        f"training diverged in epoch {epoch + 1}{'' if step is None else f', step {step}'}: {what} at learning rate "
        f"{rates.body:g}; lower train.learning_rate, add warm-up or set train.clip_gradient_norm"
    )


@torch.no_grad()
def _update_ema(ema: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    # Early averages forget faster, or the random head would linger. Source: tf.train.ExponentialMovingAverage.
    decay = min(decay, (1 + step) / (10 + step))
    for average, value in zip(ema.state_dict().values(), network.state_dict().values(), strict=True):
        if average.is_floating_point():
            average.lerp_(value, 1 - decay)
        else:
            average.copy_(value)


def average_statistics(network: ResNet, worker: Worker, *, frozen_stages: int) -> None:
    """Make the workers' batch-norm statistics equal: each saw its own photos only."""
    write_statistics(network, mean_statistics(network, worker, frozen_stages=frozen_stages))


@torch.no_grad()
def mean_statistics(network: ResNet, worker: Worker, *, frozen_stages: int) -> dict[str, Tensor]:
    """Return the mean over the workers of batch-norm statistics by name, the network as it is; nothing where alone.

    Those of frozen stages are equal already, and a mean of three equal numbers may be off by a bit.
    """
    if worker.world == 1:
        return {}
    frozen = {id(buffer) for module in first_stages(network, frozen_stages) for buffer in module.buffers()}
    own = {
        name: buffer
        for name, buffer in network.named_buffers()
        if buffer.is_floating_point() and id(buffer) not in frozen
    }
    if not own:
        return {}
    together = torch.cat([buffer.reshape(-1) for buffer in own.values()])
    dist.all_reduce(together)
    parts = (together / worker.world).split([buffer.numel() for buffer in own.values()])
    return {name: part.view_as(own[name]) for name, part in zip(own, parts, strict=True)}


@torch.no_grad()
def write_statistics(network: ResNet, statistics: Mapping[str, Tensor]) -> None:
    """Write what `mean_statistics` gave into a network of the same kind."""
    buffers = dict(network.named_buffers())
    for name, value in statistics.items():
        buffers[name].copy_(value)


def validation_batches(job: TrainJob, worker: Worker) -> list[Rows]:
    """Return the batches of a worker's validation photos."""
    rows = worker_rows(len(job.val), rank=worker.rank, workers=worker.world)
    size = job.config.evaluate.forward_batch_photos
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def validate(
    network: ResNet, job: TrainJob, worker: Worker, inputs: NetworkInputs, *, views: int = 1
) -> tuple[ClassificationSums, np.ndarray]:
    """Score every validation photo once, over all workers: the sums, and (N, C) float32 in the order of the photos.

    All workers call this together. With `views` of 8 a photo's probabilities are the mean over its symmetries, and
    `inputs` must be photos.
    """
    batches = validation_batches(job, worker)
    sums = ClassificationSums.zeros(len(job.classes))
    scores = np.zeros((len(job.val), len(job.classes)), dtype=np.float64)
    network.eval()
    part = inputs.trained_part(network)
    with torch.inference_mode(), worker.autocast():
        for positions, batch in zip(batches, inputs.validation(batches), strict=True):
            said = [part(view).float().softmax(1) for view in symmetries(batch, views)]
            probabilities = torch.stack(said).mean(0).cpu().numpy()
            sums.update(probabilities, job.val.labels[positions])
            scores[positions] = probabilities
    # Every photo belongs to one worker and is zero on all others, so adding up puts them together.
    together = worker.add_up(scores.reshape(-1)).reshape(scores.shape)
    return ClassificationSums.from_array(worker.add_up(sums.to_array())), together.astype(np.float32)
