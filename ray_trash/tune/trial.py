"""One trial, as Ray Tune runs it: one training, in this process or driving workers of its own."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray
import ray.tune
import torch
from ray.tune.integration.ray_train import TuneReportCallback

from ray_trash.cluster.capacity import TrialPlan
from ray_trash.cluster.connect import silence_ray
from ray_trash.config import Config, override
from ray_trash.dataset.listing import Listing
from ray_trash.dataset.split import SplitRule
from ray_trash.errors import RayTrashError
from ray_trash.model.network import build_network
from ray_trash.model.resnet import ResNet
from ray_trash.model.tensors import HEAD_PREFIX, fit_state, from_safetensors, plain_state, to_safetensors
from ray_trash.storage import Storage
from ray_trash.terminal.say import Terminal
from ray_trash.train.loop import IS_OVER
from ray_trash.train.photos import TrainingPhotos
from ray_trash.train.run import PreparedRun, SweepShare, run_training
from ray_trash.train.run_directory import METRICS, RUN, read_run
from ray_trash.tune.schedulers import EPOCH
from ray_trash.tune.search import Point


@dataclass(frozen=True)
class Sweep:
    """What every trial of a sweep is told.

    Attributes:
        config: As written.
        metric: What trials are compared by.
        run_uri: The sweep's directory.
        listing: The files under the data root.
        photos: Catalogued, split and decoded once.
        backbone: Pretrained weights below the head, as safetensors; None where weights are random.
        plan: How trials share the cluster.
        shared_cuts: Numbers of frozen stages whose activations are there already; None where trials differ in
            what is below the cut, and each sees to its own.
        finished: Run directories that an earlier start of the sweep has finished.
    """

    config: Config
    metric: str
    run_uri: str
    listing: Listing
    photos: TrainingPhotos
    backbone: bytes | None
    plan: TrialPlan
    shared_cuts: frozenset[int] | None
    finished: frozenset[str] = frozenset()


def run_trial(tune_config: dict[str, Any], *, sweep: Sweep) -> None:
    """Train one point, or go on with it, reporting every epoch to Ray Tune.

    A mistake in the point, such as a learning rate that diverges, ends the trial; `run.json` says why. Anything
    unforeseen is raised, and Ray Tune tries once more.
    """
    silence_ray()
    point = Point.from_tune(tune_config)
    run = Storage.at(sweep.run_uri).child(*point.run.split("/"))
    for record in history_of(run):
        _report(record, sweep)  # the scheduler of a sweep that goes on knows nothing yet
    if point.run in sweep.finished or (run.exists(RUN) and read_run(run)["status"] == "done"):
        return
    with contextlib.suppress(RayTrashError):
        config = trial_config(sweep, point)
        prepared = PreparedRun(
            config,
            run,
            sweep.listing,
            SplitRule.from_json(sweep.photos.data["split"]),
            initial_weights(config, sweep),
            overwrite=False,
            allow_changed_data=False,
        )
        run_training(prepared, terminal=Terminal.silent(), share=_share(sweep))


def trial_config(sweep: Sweep, point: Point) -> Config:
    """Return the config of one training of a sweep."""
    folder, _, name = point.run.rpartition("/")
    changes = {**point.params, "name": name, "storage": Storage.at(sweep.run_uri).child(folder).uri}
    config = override(sweep.config, changes)
    if sweep.shared_cuts is None or config.train.cache_frozen == "off" or not config.model.frozen_stages:
        return config
    cached = config.model.frozen_stages in sweep.shared_cuts
    return override(config, {"train.cache_frozen": "on" if cached else "off"})


def initial_weights(config: Config, sweep: Sweep) -> bytes:
    """Return the weights a training begins with: the sweep's below the head, and a head of its own seed."""
    return to_safetensors(plain_state(initial_network(config, sweep).state_dict()))


def initial_network(config: Config, sweep: Sweep) -> ResNet:
    """Build the network a training begins with."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = build_network(
            len(sweep.photos.classes), hidden_layers=config.model.hidden_layers, dropout=config.model.dropout
        )
    if sweep.backbone is not None:
        fit_state(network, from_safetensors(sweep.backbone, "weights of the sweep"), where="sweep", pretrained=True)
    return network


def below_the_head(initial: bytes) -> bytes:
    """Leave the head out of safetensors."""
    state = from_safetensors(initial, "initial weights")
    return to_safetensors({name: value for name, value in state.items() if not name.startswith(HEAD_PREFIX)})


def history_of(run: Storage) -> list[dict[str, Any]]:
    """Read the epochs that a run has trained."""
    return [json.loads(line) for line in run.read_bytes(METRICS).splitlines()] if run.exists(METRICS) else []


def _share(sweep: Sweep) -> SweepShare:
    in_process = sweep.plan.workers.in_process
    return SweepShare(
        sweep.photos,
        sweep.plan.workers,
        sharing=sweep.plan.runs_per_machine,
        on_epoch=lambda result: _report(result, sweep),
        callbacks=() if in_process else (TuneReportCallback(),),
    )


def _report(result: Mapping[str, Any], sweep: Sweep) -> None:
    # Where the scheduler has stopped the trial, this does not return but raises SystemExit.
    ray.tune.report(
        {EPOCH: result["epoch"], sweep.metric: result[sweep.metric], IS_OVER: bool(result.get(IS_OVER, False))}
    )
