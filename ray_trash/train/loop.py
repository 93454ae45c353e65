"""The loop of one worker: setup, resume, then epoch after epoch.

A worker that is started again after a failure runs the same function and goes on from the newest
checkpoint that is complete. Knows Ray only as the place its progress is posted to.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist

from ray_trash.dataset.sampler import steps_in_epoch
from ray_trash.dataset.stream import PhotoSource
from ray_trash.errors import DivergedError, RayTrashError
from ray_trash.evaluate.metrics import ClassificationSums
from ray_trash.evaluate.picture import draw_confusion_matrix
from ray_trash.model.checkpoint import open_checkpoint
from ray_trash.model.network import freeze_stages, set_training_mode
from ray_trash.model.precision import resolve_precision
from ray_trash.storage import Storage
from ray_trash.train.epoch import (
    TrainingFigures,
    average_statistics,
    global_batch_size,
    train_epoch,
    validate,
)
from ray_trash.train.frozen.compute import build_inputs
from ray_trash.train.frozen.inputs import Inputs, PhotoInputs
from ray_trash.train.job import TrainJob
from ray_trash.train.run_directory import (
    CHECKPOINTS,
    epoch_name,
    newest_complete,
    prune,
    publish,
    repair_best,
    require_attempt,
    set_best,
    write_metrics,
)
from ray_trash.train.schedule import frozen_stages_at
from ray_trash.train.state import TrainState, build_state, restore_state, save_state
from ray_trash.train.tracking import MLflow, TensorBoard
from ray_trash.train.worker import Worker

_Value = TypeVar("_Value")
IS_OVER = "is_over"
"""Among what is reported of an epoch: whether it was the last."""
STEP_EVENT_S = 1.0
"""Steps are shown no more often than this."""


def train(
    job: TrainJob,
    initial: Mapping[str, torch.Tensor],
    worker: Worker,
    source: PhotoSource,
    report: Callable[[dict[str, float]], None],
) -> None:
    """Train until the run is over, from its newest complete checkpoint if it has one.

    Args:
        job: The run.
        initial: The weights of a run that has not begun.
        worker: This worker; all of them call this together.
        source: Where the photos come from.
        report: Called by every worker after every epoch with its figures.

    Raises:
        DivergedError: The loss is not finite; raised by every worker together.
        StorageError: The run directory cannot be written; raised by every worker together.
        RayTrashError: Anything else a user can put right, by its kind.
    """
    config, run = job.config, Storage.at(job.run_uri)
    first = worker.rank == 0
    state = build_state(job, initial, worker.device)

    # 1. The newest complete checkpoint of the run; 2. pretrained weights; 3. random ones. The last two are `initial`.
    checkpoint = newest_complete(run, lambda text: _say(job, text)) if first else None
    name = _from_first(checkpoint.name if checkpoint else None, worker)
    if name is not None and checkpoint is None:
        checkpoint = open_checkpoint(run.child(CHECKPOINTS, name), with_trainer=True)
    if checkpoint is not None:
        restore_state(state, checkpoint, job)
    _say_start(job, worker, state)

    tensorboard = mlflow = None
    if first:
        _agree(lambda: _repair(run, state), worker)
        tensorboard = TensorBoard(run, first_epoch=state.progress.epochs_done + 1)
        mlflow = MLflow(config, state.mlflow_run_id, lambda text: _say(job, text))
        state.mlflow_run_id = mlflow.run_id
        if run.exists("augmentation.png"):
            tensorboard.add_picture("augmentation", run.read_bytes("augmentation.png"), 0)
    else:
        _agree(None, worker)

    inputs: Inputs | None = None
    ended = 0.0
    while not state.progress.stop_reason:
        if inputs is None:
            # A run that is resumed when it is over has no use for the activations, which may take minutes.
            freeze_stages(state.network, config.model.frozen_stages)
            inputs = build_inputs(source, job, worker, state.network, lambda text: _say(job, text))
            ended = time.perf_counter()
        record, validation = _run_epoch(job, state, worker, inputs, since=ended)
        ended = time.perf_counter()
        if record["is_best"] and config.evaluate.views > 1:
            # The temperature has to fit what is answered, which is the mean over the views; epochs are compared by one.
            answered = PhotoInputs(source, job, worker)
            _, state.val_probabilities = validate(state.served, job, worker, answered, views=config.evaluate.views)
        _agree(lambda: _save(job, run, state) if first else None, worker)
        if tensorboard is not None and mlflow is not None:
            tensorboard.add_epoch(record)
            # Drawing takes longer than an epoch of a head whose photos are kept, and the workers wait for it.
            if record["is_best"] or state.progress.stop_reason:
                picture = draw_confusion_matrix(validation.confusion, job.classes, title="validation")
                tensorboard.add_picture("confusion_matrix", picture, record["epoch"])
            mlflow.add_epoch(record)
            job.board.post({"kind": "epoch", "record": record})
        result = {key: value for key, value in record.items() if isinstance(value, (int, float))}
        result[IS_OVER] = bool(state.progress.stop_reason)
        report(result)
    if tensorboard is not None and mlflow is not None:
        tensorboard.close()
        mlflow.close()
        _say(job, f"stopped: {state.progress.stop_reason}; best epoch {state.progress.best_epoch}")


def _run_epoch(
    job: TrainJob, state: TrainState, worker: Worker, inputs: Inputs, *, since: float
) -> tuple[dict[str, Any], ClassificationSums]:
    config = job.config
    started = time.perf_counter()
    epoch = state.progress.epochs_done
    torch.manual_seed(int(np.random.SeedSequence([config.seed, epoch, worker.rank]).generate_state(1)[0]))
    frozen = frozen_stages_at(
        epoch,
        frozen_stages=config.model.frozen_stages,
        unfreeze_every_epochs=config.train.unfreeze_every_epochs,
    )
    freeze_stages(state.network, frozen)
    set_training_mode(state.network, frozen)
    shown = [0.0]

    def on_step(step: int, steps: int, loss: float, images_per_s: float) -> None:
        if worker.rank == 0 and (step == steps or time.perf_counter() - shown[0] > STEP_EVENT_S):
            shown[0] = time.perf_counter()
            event = {
                "kind": "step",
                "epoch": epoch + 1,
                "step": step,
                "steps": steps,
                "loss": loss,
                "images_per_s": images_per_s,
            }
            job.board.post(event)

    training = train_epoch(state, job, worker, inputs, on_step=on_step)
    average_statistics(state.network, worker, frozen_stages=frozen)
    if state.ema is not None:
        average_statistics(state.ema, worker, frozen_stages=frozen)
    validation, state.val_probabilities = validate(state.served, job, worker, inputs)
    if not np.isfinite(validation.loss):
        raise DivergedError(
            f"training diverged in epoch {epoch + 1}: the validation loss is {validation.loss:g} "
            f"at learning rate {training.learning_rate:g}; lower train.learning_rate"
        )
    now = time.perf_counter()
    # Whether there is time for another epoch is one worker's to say, or some would wait for the others in it.
    seconds, since_last_s = _from_first((now - started, now - since), worker)
    before = state.progress.epochs_of(config.train)
    record = _record(job, state, training, validation, frozen, seconds, since_last_s)
    if worker.rank == 0 and (epochs := state.progress.epochs_of(config.train)) != before:
        _say(
            job, f"{epochs} of {config.train.epochs} epochs fit train.time_budget_min={config.train.time_budget_min:g}"
        )
    return record, validation


def _record(
    job: TrainJob,
    state: TrainState,
    training: TrainingFigures,
    validation: ClassificationSums,
    frozen: int,
    seconds: float,
    since_last_s: float,
) -> dict[str, Any]:
    train = job.config.train
    record: dict[str, Any] = {
        "epoch": state.progress.epochs_done + 1,
        "train_loss": training.loss,
        "train_accuracy": training.accuracy,
        "val_loss": validation.loss,
        "val_accuracy": validation.accuracy,
        "val_macro_f1": validation.macro_f1,
        "val_n": validation.n,
        "val_correct": validation.correct,
        "learning_rate": training.learning_rate,
        "frozen_stages": frozen,
        "steps": training.steps,
        "images_per_s": training.images_per_s,
        "seconds": seconds,
    }
    state.progress = state.progress.after_epoch(record, training.steps, train, seconds=since_last_s)
    metric = train.select_by if train.select_by.endswith("loss") else "val_loss"
    record["is_best"] = state.progress.best_epoch == record["epoch"]
    record["stop_reason"] = state.progress.stop_reason
    record["checkpoint"] = epoch_name(record["epoch"], metric, record[metric])
    state.history.append(record)
    return record


def _save(job: TrainJob, run: Storage, state: TrainState) -> None:
    # The checkpoint comes first: everything after it can be made again from it.
    require_attempt(run, job.attempt)
    record = state.history[-1]
    publish(run, record["checkpoint"], lambda folder: save_state(state, job, folder))
    if record["is_best"]:
        set_best(run, record["checkpoint"])
    write_metrics(run, state.history)
    keep = job.config.train.keep_checkpoints
    prune(run, keep=None if keep == "all" else keep, best=state.best_checkpoint)


def _repair(run: Storage, state: TrainState) -> None:
    repair_best(run, state.best_checkpoint)
    write_metrics(run, state.history)


def _agree(action: Any, worker: Worker) -> None:
    """Let the first worker write, and every worker know whether it could."""
    problem: RayTrashError | None = None
    if worker.rank == 0 and action is not None:
        try:
            action()
        except RayTrashError as error:
            problem = error
    problem = _from_first(problem, worker)
    if problem is not None:
        raise problem


def _from_first(value: _Value, worker: Worker) -> _Value:
    if worker.world == 1:
        return value
    holder = [value]
    dist.broadcast_object_list(holder, src=0, device=worker.device)
    return holder[0]


def _say(job: TrainJob, text: str) -> None:
    job.board.post({"kind": "say", "text": text})


def _say_start(job: TrainJob, worker: Worker, state: TrainState) -> None:
    if worker.rank != 0:
        return
    train, done = job.config.train, state.progress.epochs_done
    size = global_batch_size(job, worker.world)
    steps = steps_in_epoch(len(job.train), size, train.steps_per_epoch, workers=worker.world)
    dtype, why = resolve_precision(train.precision, worker.device)
    frozen = job.config.model.frozen_stages
    _say(
        job,
        f"{len(job.train)} photos to train on, {len(job.val)} to validate; "
        f"{worker.world} worker{'s' * (worker.world > 1)} on {worker.device.type}, "
        f"{torch.get_num_threads()} threads each; global batch {size}, {steps} steps an epoch; "
        f"{str(dtype).removeprefix('torch.')} ({why}); "
        f"{frozen} of 5 stages frozen; photos {'in memory' if job.in_memory else 'streamed'}"
        + (f"; going on after epoch {done}" if done else ""),
    )
