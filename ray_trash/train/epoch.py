"""One epoch of one worker: training steps, then validation, with every count added over the workers.

Letters: B photos, S side in pixels, C classes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ray_trash.config import Config
from ray_trash.evaluate.metrics import ClassificationSums
from ray_trash.image.tensor import symmetries
from ray_trash.model.network import STAGES
from ray_trash.model.resnet import ResNet
from ray_trash.model.transfer import to_device, to_host
from ray_trash.train.frozen.inputs import NetworkInputs
from ray_trash.train.job import TrainJob
from ray_trash.train.loss import inverse_frequency_weights, mix, summed_loss
from ray_trash.train.moving_average import MovingAverage
from ray_trash.train.progress import EpochProgress, LearningRates
from ray_trash.train.schedule import learning_rate_at
from ray_trash.train.state import TrainState
from ray_trash.train.steps import own_batches, plan_epoch, validation_batches
from ray_trash.train.tally import Tally, diverged_error
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
    go_on: Callable[[int, Callable[[], None]], bool] = lambda _, settle: True,
    rate_at: Callable[[int], float] | None = None,
    look_every_steps: int | None = None,
) -> TrainingFigures | None:
    """Train from where an epoch has come to its end; every worker raises `DivergedError` at the same step.

    Which stages are frozen, and the network's mode, are the caller's. `progress` is brought forward with every step,
    but for the sums in it, which a GPU keeps until they are asked for. `on_step` is called with step, steps, the mean
    loss on this worker of the newest step that is known, and photos per second over all workers; then `go_on` with the
    steps that are left and what brings the sums up to date, and where it denies, the epoch stays as it is and there are
    no figures. `rate_at` gives the learning rate of a step of the run, from 0, in place of the schedule;
    `look_every_steps` is that of `Tally`.
    """
    config, train = job.config, job.config.train
    epoch, begun_at = state.run.epochs_done, progress.step
    plan = plan_epoch(job, worker.world, epoch)
    steps = len(plan.sizes)
    own = own_batches(job, worker, plan)[begun_at:]
    in_turn = [positions for parts in own for positions in parts]
    batches = inputs.training(in_turn, epoch)
    drawn = job.train.labels[np.concatenate([*in_turn, np.empty(0, np.int64)])]
    labels = iter(to_device(drawn, worker.device).split([len(positions) for positions in in_turn]))
    class_weights = None
    if train.class_balance == "weights":
        class_weights = inverse_frequency_weights(job.train.labels, len(job.classes)).to(worker.device)
    network = _wrapped(inputs.trained_part(state.network), worker)
    average = MovingAverage(state.ema, state.network) if state.ema is not None else None
    tally = Tally(progress, epoch, worker.device, look_every_steps=look_every_steps)
    n_seen, before_s, started = 0, progress.training_s, time.perf_counter()
    for step, parts in enumerate(own, start=begun_at):
        random = _seeded(config, epoch, step, worker)
        rates = _set_learning_rates(state, job, step, steps, rate_at)
        progress.first_rates = progress.first_rates or rates
        n_own = sum(map(len, parts))
        step_loss, step_correct = (torch.zeros((), device=worker.device) for _ in range(2))
        for number in range(1, len(parts) + 1):
            adds_on = isinstance(network, DistributedDataParallel) and number < len(parts)
            batch = mix(next(batches), next(labels), config.augment, random)
            with cast(DistributedDataParallel, network).no_sync() if adds_on else nullcontext():
                with worker.autocast():
                    logits = network(batch.photos)
                loss = summed_loss(logits, batch, class_weights=class_weights, label_smoothing=train.label_smoothing)
                # DDP averages gradients over workers; this makes the result the mean over the step's photos.
                (loss * worker.world / plan.sizes[step]).backward()
            step_loss += loss.detach()
            step_correct += (logits.detach().argmax(1) == batch.labels).sum()
        norm = nn.utils.get_total_norm([p.grad for p in state.network.parameters() if p.grad is not None])
        tally.add(step, step_loss, step_correct, norm, rates, own=n_own, photos=plan.sizes[step])
        _take_step(state, norm, train.clip_gradient_norm, tally)
        if average is not None:
            average.follow(train.ema_decay, state.run.steps_done + step)
        progress.seen += n_own
        progress.step = step + 1
        if progress.step == steps:
            tally.settle()
        elapsed = time.perf_counter() - started
        progress.training_s = before_s + elapsed
        n_seen += plan.sizes[step]
        if on_step is not None:
            on_step(step + 1, steps, tally.last_loss, n_seen / elapsed)
        if not go_on(steps - step - 1, tally.settle):
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
        network,
        device_ids=[worker.device.index] if worker.device.type == "cuda" else None,
        broadcast_buffers=False,
        # Gradients are what is exchanged, not copied there and back.
        gradient_as_bucket_view=True,
    )


def _set_learning_rates(
    state: TrainState, job: TrainJob, step: int, steps: int, rate_at: Callable[[int], float] | None
) -> LearningRates:
    at = state.run.steps_done + step
    for group in state.optimizer.param_groups:
        if rate_at is not None:
            group["lr"] = group["initial_lr"] * rate_at(at)
            continue
        group["lr"] = learning_rate_at(
            at,
            group["initial_lr"],
            job.config.train,
            total_steps=steps * state.run.epochs_of(job.config.train),
            plateau_cuts=state.run.plateau_cuts,
            so_far=state.run.cosine,
        )
    rates = {group["name"]: float(group["lr"]) for group in state.optimizer.param_groups}
    return LearningRates(rates.get(STAGES[-1], rates["head"]), rates["head"])


def _take_step(state: TrainState, norm: torch.Tensor, limit: float | None, tally: Tally) -> None:
    if limit is not None:
        nn.utils.clip_grads_with_norm_(state.network.parameters(), limit, norm)
    if not tally.is_immediate:
        # How GradScaler has fused optimizers leave out a step, which they are where nobody waits.
        state.optimizer.found_inf = tally.diverged  # type: ignore[attr-defined]
    state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=True)


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
    answers = []
    with torch.inference_mode(), worker.autocast():
        for batch in inputs.validation(batches):
            said = [part(view).float().softmax(1) for view in symmetries(batch, views)]
            answers.append(torch.stack(said).mean(0))
    # Only now is a GPU waited for, once for all of them.
    ends = np.cumsum([len(positions) for positions in batches])[:-1]
    probabilities = np.split(to_host(torch.cat(answers))(), ends) if answers else []
    for positions, of_batch in zip(batches, probabilities, strict=True):
        sums.update(of_batch, job.val.labels[positions])
        scores[positions] = of_batch
    # Every photo belongs to one worker and is zero on all others, so adding up puts them together.
    together = worker.add_up(scores.reshape(-1)).reshape(scores.shape)
    return ClassificationSums.from_array(worker.add_up(sums.to_array())), together.astype(np.float32)
