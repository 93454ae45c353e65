"""One trial, as Ray Tune runs it: one training, in this process or driving workers of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import ray.tune

from ray_trash.cluster.capacity import TrialPlan
from ray_trash.cluster.connect import silence_ray
from ray_trash.config import Config, override
from ray_trash.errors import RayTrashError
from ray_trash.model.resnet import ResNet
from ray_trash.model.tensors import fit_state, plain_state
from ray_trash.storage import Storage
from ray_trash.terminal.say import Terminal
from ray_trash.train.loop import IS_OVER
from ray_trash.train.photos import PreparedRun, TrainingPhotos
from ray_trash.train.run import SweepShare, run_training
from ray_trash.train.run_directory import RUN, read_metrics, read_run
from ray_trash.train.state import seeded_network
from ray_trash.tune.schedulers import EPOCH
from ray_trash.tune.search import Point
from ray_trash.tune.trials import directory_of

if TYPE_CHECKING:
    from ray.train import UserCallback


@dataclass(frozen=True)
class Sweep:
    """What every trial of a sweep is told.

    Attributes:
        base: The config as written, the sweep's directory, and pretrained weights below the head, if there are any.
        metric: What trials are compared by.
        plan: How trials share the cluster.
        cached_stages: Numbers of frozen stages whose activations are there already; None where trials differ in
            what is below them, and each sees to its own.
        finished: Run directories that an earlier start of the sweep has finished.
    """

    base: PreparedRun
    metric: str
    photos: TrainingPhotos
    plan: TrialPlan
    cached_stages: frozenset[int] | None
    finished: frozenset[str]

    @property
    def config(self) -> Config:
        """The config as written."""
        return self.base.config

    @property
    def run(self) -> Storage:
        """The sweep's directory."""
        return self.base.run


def run_trial(tune_config: dict[str, Any], *, sweep: Sweep) -> None:
    """Train one point, or go on with it, reporting every epoch to Ray Tune.

    A mistake in the point, such as a learning rate that diverges, ends the trial; `run.json` says why. Anything
    unforeseen is raised, and Ray Tune tries once more.
    """
    silence_ray()
    point = Point(**tune_config)
    run = directory_of(sweep.run, point.run)
    for record in read_metrics(run):
        _report(record, sweep)  # the scheduler of a sweep that goes on knows nothing yet
    if point.run in sweep.finished or (run.exists(RUN) and read_run(run)["status"] == "done"):
        return
    share = SweepShare(
        sweep.photos,
        sweep.plan.workers,
        runs_at_once=sweep.plan.concurrent,
        runs_per_machine=sweep.plan.runs_per_machine,
        on_epoch=lambda result: _report(result, sweep),
        callbacks=() if sweep.plan.workers.in_process else _report_callbacks(),
    )
    with contextlib.suppress(RayTrashError):
        config = trial_config(sweep, point)
        initial = plain_state(initial_network(sweep.base, config).state_dict())
        prepared = replace(sweep.base, config=config, run=run, initial=initial, overwrite=False)
        run_training(prepared, terminal=Terminal.silent(), share=share)


def _report_callbacks() -> tuple[UserCallback, ...]:
    # It loads Ray Train, which a trial in one process does without.
    from ray.tune.integration.ray_train import TuneReportCallback

    return (TuneReportCallback(),)


def trial_config(sweep: Sweep, point: Point) -> Config:
    """Return the config of one training of a sweep."""
    folder, _, name = point.run.rpartition("/")
    changes = {**point.params, "name": name, "storage": directory_of(sweep.run, folder).uri}
    config = override(sweep.config, changes)
    if sweep.cached_stages is None or config.train.cache_frozen == "off" or not config.model.frozen_stages:
        return config
    cached = config.model.frozen_stages in sweep.cached_stages
    return override(config, {"train.cache_frozen": "on" if cached else "off"})


def initial_network(base: PreparedRun, config: Config) -> ResNet:
    """Build the network a training begins with: the sweep's weights below the head, and a head of its own seed."""
    network = seeded_network(config, len(base.listing.classes))
    if base.initial:
        fit_state(network, base.initial, where="sweep", pretrained=True)
    return network


def _report(result: Mapping[str, Any], sweep: Sweep) -> None:
    # Where the scheduler has stopped the trial, this does not return but raises SystemExit.
    ray.tune.report(
        {EPOCH: result["epoch"], sweep.metric: result[sweep.metric], IS_OVER: bool(result.get(IS_OVER, False))}
    )
