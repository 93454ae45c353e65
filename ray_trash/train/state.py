"""Everything about a run that must survive a kill: made new or from a checkpoint, and saved to one.

Random numbers need no saving: every step seeds its own from (seed, epoch, step, worker).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

from ray_trash.config import Config, effective_tree
from ray_trash.dataset.catalog import join_trained_on
from ray_trash.errors import CheckpointError
from ray_trash.image.preprocess import Preprocessing
from ray_trash.model.calibration import Calibration, fit_calibration
from ray_trash.model.checkpoint import Checkpoint, write_checkpoint, write_trainer_part
from ray_trash.model.document import CheckpointDocument
from ray_trash.model.golden import compute_golden
from ray_trash.model.network import build_network, empty_network, parameter_groups, restore_optimizer
from ray_trash.model.resnet import ResNet
from ray_trash.train.job import TrainJob
from ray_trash.train.progress import EpochProgress
from ray_trash.train.record import EpochRecord
from ray_trash.train.schedule import RunState

VAL_PROBABILITIES = "val_probabilities"
"""Name, in the trainer part of a checkpoint, of its epoch's probabilities for every validation photo."""


@dataclass
class TrainState:
    """One run in memory.

    Attributes:
        network: What is trained, not wrapped.
        ema: Moving average of its weights, which is what is validated and saved; None where it is off.
        optimizer: Over the groups of `model.network.parameter_groups`.
        val_probabilities: What the newest epoch says of every validation photo, (N, C) float32: the mean over
            `evaluate.views` if it is the best so far, else one view.
        trained_on: The photos of earlier starts, which may have been others, packed as `trained_on` does.
        within: How far the epoch has come that a checkpoint within it was made in; None at the start of an epoch.
    """

    network: ResNet
    ema: ResNet | None
    optimizer: Optimizer
    run: RunState = field(default_factory=RunState)
    history: list[EpochRecord] = field(default_factory=list)
    mlflow_run_id: str | None = None
    val_probabilities: np.ndarray | None = None
    trained_on: str = ""
    within: EpochProgress | None = None

    def copied(self) -> TrainState:
        """Return a copy that stays as it is while this one is trained on; memory for all its tensors."""
        network, ema, optimizer = copy.deepcopy((self.network, self.ema, self.optimizer))
        return replace(self, network=network, ema=ema, optimizer=optimizer, history=list(self.history))

    @property
    def served(self) -> ResNet:
        """The network that is validated, saved and served."""
        return self.ema if self.ema is not None else self.network

    @property
    def best_checkpoint(self) -> str | None:
        """Name of the best epoch's checkpoint, if there is a best epoch."""
        best = self.run.best_epoch
        return self.history[best - 1].checkpoint if best else None


def seeded_network(config: Config, n_classes: int) -> ResNet:
    """Build a network whose random weights follow the config's seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return build_network(n_classes, **_shape(config))


def _shape(config: Config) -> dict[str, Any]:
    model = config.model
    return {"architecture": model.architecture, "hidden_layers": model.hidden_layers, "dropout": model.dropout}


def build_state(job: TrainJob, initial: Mapping[str, Tensor], device: torch.device) -> TrainState:
    """Make the state of a run that has not begun, from the weights it begins with."""
    config = job.config
    network = empty_network(len(job.classes), **_shape(config))
    network.to_empty(device=device).load_state_dict(initial)
    network.to(memory_format=torch.channels_last)
    ema = copy.deepcopy(network).requires_grad_(False).eval() if config.train.ema_decay else None
    return TrainState(network, ema, build_optimizer(network, config))


def build_optimizer(network: ResNet, config: Config) -> Optimizer:
    """Build the optimizer over all parameters that are ever trained.

    With `train.learning_rate=auto` its rates are shares of the one that is still to be found. A step is fused: on a CPU
    one pass over a parameter in place of ten, on a GPU one kernel for many parameters, that can be left out without
    asking (`Tally.diverged`).
    """
    train = config.train
    rate = 1.0 if train.learning_rate == "auto" else train.learning_rate
    groups = parameter_groups(
        network,
        frozen_stages=config.model.frozen_stages,
        learning_rate=rate,
        head_factor=train.head_learning_rate_factor,
        stage_decay=train.stage_learning_rate_decay,
        weight_decay=train.weight_decay,
    )
    if train.optimizer == "sgd":
        optimizer: Optimizer = SGD(groups, lr=rate, momentum=train.momentum, nesterov=train.momentum > 0, fused=True)
    elif train.optimizer == "adam":
        optimizer = Adam(groups, lr=rate, fused=True)
    else:
        optimizer = AdamW(groups, lr=rate, fused=True)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return optimizer


def restore_state(state: TrainState, checkpoint: Checkpoint, job: TrainJob) -> None:
    """Bring a fresh state to where a checkpoint left off; a `CheckpointError` if classes or architecture differ."""
    saved = checkpoint.trainer()
    weights = checkpoint.weights()
    others = {"network": saved["network"] or weights, "ema": weights, "classes": checkpoint.document.classes}
    _restore(state, {**saved, **others}, job, where=checkpoint.uri)
    state.trained_on = checkpoint.document.data.get("trained_on", "")


def restore_within(state: TrainState, saved: Mapping[str, Any], job: TrainJob, *, where: str) -> None:
    """Bring a fresh state to where `save_within` left off; a `CheckpointError` if classes or architecture differ."""
    _restore(state, saved, job, where=where)
    state.trained_on = saved["trained_on"]
    state.within = EpochProgress.from_json(saved["within"])


def _restore(state: TrainState, saved: Mapping[str, Any], job: TrainJob, *, where: str) -> None:
    if tuple(saved["classes"]) != job.classes:
        raise CheckpointError(
            f"{where}: trained on the classes {', '.join(saved['classes'])}; "
            f"the photos now have {', '.join(job.classes)}; restore them, or start anew with --overwrite"
        )
    try:
        state.network.load_state_dict(saved["network"])
        if state.ema is not None:
            state.ema.load_state_dict(saved["ema"] or saved["network"])
    except RuntimeError as error:
        message = f"{where}: does not fit the config's network; resume with the config of the run"
        raise CheckpointError(message) from error
    restore_optimizer(state.optimizer, saved["optimizer"])
    state.history = [EpochRecord.from_json(record) for record in saved["history"]]
    state.run = RunState.from_json(saved["progress"]).resumed(job.config.train)
    state.mlflow_run_id = saved["mlflow_run_id"]


def package_versions() -> dict[str, str]:
    """Return the versions of what a run's result depends on."""
    return {name: version(name) for name in ("ray-trash", "ray", "torch", "torchvision", "pillow")}


def save_state(state: TrainState, job: TrainJob, directory: Path) -> None:
    """Write a checkpoint that can be served and resumed from."""
    config, record, probabilities = job.config, state.history[-1], state.val_probabilities
    preprocessing = Preprocessing.from_config(config.image)
    calibration = Calibration.none(len(job.classes))
    if probabilities is not None:
        calibration = fit_calibration(probabilities, job.val.labels, target_error=config.serve.target_error)
    document = CheckpointDocument(
        classes=job.classes,
        network=config.model.architecture,
        hidden_layers=config.model.hidden_layers,
        dropout=config.model.dropout,
        frozen_stages=record.frozen_stages,
        preprocessing=preprocessing,
        views=config.evaluate.views,
        calibration=calibration,
        metrics={**record.judged, "val_n": record.metrics["val_n"]},
        data={**job.data, "trained_on": join_trained_on(state.trained_on, job.data["trained_on"])},
        config=effective_tree(config),
        epoch=state.run.epochs_done,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=package_versions(),
        golden=compute_golden(state.served, preprocessing, config.evaluate.views, calibration),
    )
    write_checkpoint(
        directory,
        state.served.state_dict(),
        document,
        trainer={
            **_trainer_part(state),
            # Where a moving average is served, what is trained is another network.
            "network": dict(state.network.state_dict()) if state.ema is not None else None,
            VAL_PROBABILITIES: None if probabilities is None else torch.from_numpy(probabilities),
        },
    )


def save_within(state: TrainState, job: TrainJob, plan: str, directory: Path) -> None:
    """Write a checkpoint within an epoch, which can be resumed from and no more; `plan` is of `epoch.EpochPlan`."""
    assert state.within is not None
    trainer = {
        **_trainer_part(state),
        "network": dict(state.network.state_dict()),
        "ema": dict(state.ema.state_dict()) if state.ema is not None else None,
        "trained_on": join_trained_on(state.trained_on, job.data["trained_on"]),
        "within": state.within.to_json(),
        "classes": list(job.classes),
        "plan": plan,
    }
    write_trainer_part(directory, trainer)


def _trainer_part(state: TrainState) -> dict[str, Any]:
    return {
        "progress": state.run.to_json(),
        "history": [record.to_json() for record in state.history],
        "optimizer": state.optimizer.state_dict(),
        "mlflow_run_id": state.mlflow_run_id,
    }
