"""The loop of one worker: setup, resume, then epoch after epoch; Ray is only the place its progress is posted to."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from ray_trash.dataset.stream import PhotoSource
from ray_trash.errors import DivergedError
from ray_trash.evaluate.metrics import ClassificationSums, validation_record
from ray_trash.model.checkpoint import Checkpoint, open_checkpoint, read_trainer_part
from ray_trash.model.network import freeze_stages, set_training_mode
from ray_trash.model.precision import resolve_precision
from ray_trash.storage import Storage
from ray_trash.terminal.text import counted
from ray_trash.train.board import Begun, Computed, Step
from ray_trash.train.epoch import expect_photos, train_epoch, validate
from ray_trash.train.frozen.compute import build_inputs
from ray_trash.train.frozen.inputs import CachedInputs, NetworkInputs, PhotoInputs
from ray_trash.train.job import TrainJob
from ray_trash.train.learning_rate import find_learning_rate, leave_range_test, range_line, take_rate
from ray_trash.train.progress import EpochProgress
from ray_trash.train.record import EpochRecord
from ray_trash.train.run_directory import CHECKPOINTS, Within, epoch_name, newest_complete, newest_within
from ray_trash.train.saving import Saver, follow_checkpoint
from ray_trash.train.schedule import frozen_stages_at
from ray_trash.train.state import TrainState, build_state, restore_state, restore_within
from ray_trash.train.statistics import average_statistics
from ray_trash.train.steps import global_batch_size, plan_epoch
from ray_trash.train.tally import diverged_error
from ray_trash.train.tracking import Tracking
from ray_trash.train.worker import Worker

IS_OVER = "is_over"
"""Among what is reported of an epoch: whether it was the last."""
STEP_EVENT_S = 1.0
"""Steps are shown no more often than this."""


def train(
    job: TrainJob,
    initial: Mapping[str, torch.Tensor],
    worker: Worker,
    source: PhotoSource,
    report: Callable[[dict[str, Any]], None],
) -> bool:
    """Train until the run is over, from its newest complete checkpoint if it has one; False if told to stop before.

    All workers call this together, and fail together: with a `DivergedError` where the loss is not finite, and with a
    `StorageError` where the run directory cannot be written. `initial` is what a run begins with that has not begun,
    and `report` is called by each of them after every epoch.
    """
    run, say = Storage.at(job.run_uri), job.board.post
    state = build_state(job, initial, worker.device)
    _resume(state, run, job, worker)
    if worker.is_first:
        plan = plan_epoch(job, worker.world, state.run.epochs_done)
        say(_start_line(job, worker, state, len(plan.sizes)))
        if state.run.stop_kind is None:
            done = state.within.step if state.within is not None else 0
            say(Begun(worker.world, state.run.epochs_done + 1, done, len(plan.sizes)))
    # A kill may have come between a checkpoint and what is made from it.
    worker.on_first(lambda: follow_checkpoint(run, state))
    tracking = Tracking(run, job.config, state, say) if worker.is_first else None
    saver = Saver(job, run, state, worker)

    def announce(record: EpochRecord, validation: ClassificationSums) -> None:
        if tracking is not None:
            tracking.add_epoch(record, validation, job.classes)
            say(record)
        report({"epoch": record.epoch, **record.metrics, IS_OVER: bool(record.stop_reason)})

    try:
        for record, validation in _epochs(job, state, worker, source, saver):
            if not saver.save_epoch(partial(announce, record, validation)):
                break
    except DivergedError:
        saver.settle()  # all workers meet it together, and the epoch before it counts
        raise
    except BaseException:
        saver.abandon()
        raise
    if tracking is not None:
        tracking.close()
        if state.run.stop_kind is not None:
            say(f"stopped: {state.run.stop_reason}; best epoch {state.run.best_epoch}")
    return state.run.stop_kind is not None


def _resume(state: TrainState, run: Storage, job: TrainJob, worker: Worker) -> None:
    found = _newest(run, job, worker) if worker.is_first else None
    name, within = worker.from_first((found.name, isinstance(found, Within)) if found else ("", False))
    place = run.child(CHECKPOINTS, name)
    if within:
        saved = found.saved if isinstance(found, Within) else read_trainer_part(place)
        restore_within(state, saved, job, where=place.uri)
        if not worker.is_first and state.within is not None:
            # The sums of all workers go on as those of the first.
            state.within = replace(state.within, loss_sum=0.0, correct=0.0, seen=0.0)
    elif name:
        whole = found if isinstance(found, Checkpoint) else open_checkpoint(place, with_trainer=True)
        restore_state(state, whole, job)


def _newest(run: Storage, job: TrainJob, worker: Worker) -> Checkpoint | Within | None:
    """Open what the run goes on from: a checkpoint within an epoch if its steps are still those of the epoch."""
    say = job.board.post
    whole = newest_complete(run, say)
    within = newest_within(run, say)
    if within is None or (whole is not None and whole.document.epoch >= within.epoch):
        return whole
    if within.saved["plan"] == plan_epoch(job, worker.world, within.epoch - 1).name:
        return within
    say(
        f"passed over: {within.name}: the steps of the epoch are others now: its photos, the seed or the global batch "
        "changed; the epoch begins again"
    )
    return whole


def _start_line(job: TrainJob, worker: Worker, state: TrainState, steps: int) -> str:
    train, size = job.config.train, global_batch_size(job, worker.world)
    dtype, why = resolve_precision(train.precision, worker.device)
    return (
        f"{len(job.train)} photos to train on, {len(job.val)} to validate; "
        f"{counted(worker.world, 'worker')} on {worker.device.type}, {torch.get_num_threads()} threads each; "
        f"global batch {size}, {steps} steps an epoch; {str(dtype).removeprefix('torch.')} ({why}); "
        f"{job.config.model.frozen_stages} of 5 stages frozen; photos {'in memory' if job.in_memory else 'streamed'}"
        f"{_going_on(state)}"
    )


def _going_on(state: TrainState) -> str:
    if state.within is not None:
        return f"; going on after step {state.within.step} of epoch {state.run.epochs_done + 1}"
    return f"; going on after epoch {state.run.epochs_done}" if state.run.epochs_done else ""


def _epochs(
    job: TrainJob, state: TrainState, worker: Worker, source: PhotoSource, saver: Saver
) -> Iterator[tuple[EpochRecord, ClassificationSums]]:
    """Train and validate until the run is over or told to stop; the caller saves before it asks for another epoch."""
    if state.run.stop_kind is not None:
        return  # it has no use for the activations, which may take minutes
    views = job.config.evaluate.views
    freeze_stages(state.network, job.config.model.frozen_stages)
    post = job.board.post
    inputs = build_inputs(source, job, worker, state.network, post, lambda done, wanted: post(Computed(done, wanted)))
    if job.config.train.learning_rate == "auto" and not state.run.epochs_done and state.within is None:
        _take_found_rate(state, job, worker, inputs)
    ended = time.perf_counter()
    while state.run.stop_kind is None:
        ran = _run_epoch(job, state, worker, inputs, saver, since=ended)
        if ran is None:
            return
        record, validation = ran
        ended = time.perf_counter()
        # By `last` every epoch is the best so far, and only the one that ends the run stays it.
        stays = job.config.train.select_by != "last" or bool(record.stop_reason)
        if record.is_best and stays and views > 1:
            # The temperature has to fit what is answered, which is the mean over the views; epochs are compared by one.
            photos = PhotoInputs(source, job, worker) if isinstance(inputs, CachedInputs) else inputs
            _, state.val_probabilities = validate(state.served, job, worker, photos, views=views)
        yield record, validation


def _take_found_rate(state: TrainState, job: TrainJob, worker: Worker, inputs: NetworkInputs) -> None:
    found = find_learning_rate(state, job, worker, inputs)
    take_rate(state.optimizer, found.learning_rate)
    worker.on_first(lambda: leave_range_test(Storage.at(job.run_uri), found))
    if worker.is_first:
        job.board.post(range_line(found))


def _run_epoch(
    job: TrainJob, state: TrainState, worker: Worker, inputs: NetworkInputs, saver: Saver, *, since: float
) -> tuple[EpochRecord, ClassificationSums] | None:
    config, epoch = job.config, state.run.epochs_done
    progress, state.within = state.within or EpochProgress(), None
    started, since = time.perf_counter() - progress.epoch_s, since - progress.with_writing_s
    stages, every = config.model.frozen_stages, config.train.unfreeze_every_epochs
    frozen = frozen_stages_at(epoch, frozen_stages=stages, unfreeze_every_epochs=every)
    freeze_stages(state.network, frozen)
    set_training_mode(state.network, frozen)
    expect_photos(state, job, worker, inputs)

    def go_on(steps_left: int, settle: Callable[[], None]) -> bool:
        now = time.perf_counter()
        progress.epoch_s, progress.with_writing_s = now - started, now - since
        return saver.go_on(progress, steps_left, settle)

    on_step = _step_poster(job, epoch) if worker.is_first else None
    training = train_epoch(state, job, worker, inputs, progress, on_step=on_step, go_on=go_on)
    if training is None:
        return None
    for network in (state.network, state.ema):
        if network is not None:
            average_statistics(network, worker, frozen_stages=frozen)
    validation, state.val_probabilities = validate(state.served, job, worker, inputs)
    if not np.isfinite(validation.loss):
        raise diverged_error(f"the validation loss is {validation.loss:g}", epoch, training.rates)
    now = time.perf_counter()
    # Whether there is time for another epoch is one worker's to say, or some would wait for the others in it.
    seconds, since_last_s = worker.from_first((now - started, now - since))
    metrics = {"train_loss": training.loss, "train_accuracy": training.accuracy, **validation_record(validation)}
    epochs_before = state.run.epochs_of(config.train)
    state.run = state.run.after_epoch(metrics, training.steps, config.train, seconds=since_last_s)
    named_after = config.train.select_by if config.train.select_by.endswith("loss") else "val_loss"
    record = EpochRecord(
        epoch=epoch + 1,
        metrics=metrics,
        learning_rate=training.rates.body,
        head_learning_rate=training.rates.head,
        frozen_stages=frozen,
        steps=training.steps,
        images_per_s=training.images_per_s,
        seconds=seconds,
        is_best=state.run.best_epoch == epoch + 1,
        stop_reason=state.run.stop_reason,
        checkpoint=epoch_name(epoch + 1, named_after, metrics[named_after]),
    )
    state.history.append(record)
    epochs, budget_min = state.run.epochs_of(config.train), config.train.time_budget_min
    if worker.is_first and epochs != epochs_before:
        job.board.post(f"{epochs} of {config.train.epochs} epochs fit train.time_budget_min={budget_min:g}")
    return record, validation


def _step_poster(job: TrainJob, epoch: int) -> Callable[[int, int, float, float], None]:
    shown_at = 0.0

    def post(step: int, steps: int, loss: float, images_per_s: float) -> None:
        nonlocal shown_at
        # Of its first steps a GPU has not been asked for the loss.
        if math.isfinite(loss) and (step == steps or time.perf_counter() - shown_at > STEP_EVENT_S):
            shown_at = time.perf_counter()
            job.board.post(Step(epoch + 1, step, steps, loss, images_per_s))

    return post
