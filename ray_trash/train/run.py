"""The driver of one training run: photos, workers, and what is left in the run directory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ray_trash.cluster.capacity import WorkerPlan
from ray_trash.config import Config, to_json
from ray_trash.dataset.listing import Listing, list_photos, require_two_classes
from ray_trash.dataset.split import SplitRule, make_rule
from ray_trash.errors import DataError
from ray_trash.model.precision import resolve_device
from ray_trash.model.tensors import plain_state
from ray_trash.model.weights import load_pretrained
from ray_trash.storage import Storage
from ray_trash.terminal.say import Terminal
from ray_trash.train.augmentation_sheet import augmentation_sheet
from ray_trash.train.board import Board, Display
from ray_trash.train.job import TrainJob
from ray_trash.train.learning_rate import read_range_test
from ray_trash.train.photos import PreparedRun, TrainingPhotos, needs_ray, prepare_photos
from ray_trash.train.run_directory import (
    AUGMENTATION_SHEET,
    BEST,
    CONFIG_YAML,
    METRICS,
    read_metrics,
    refuse_data_inside,
    refuse_existing,
    update_run,
)
from ray_trash.train.run_record import recorded
from ray_trash.train.start import train_here
from ray_trash.train.state import seeded_network
from ray_trash.train.steps import require_no_batch_of_one
from ray_trash.train.stretches import Stretches
from ray_trash.train.tracking import require_mlflow

if TYPE_CHECKING:
    from ray.train import UserCallback

    from ray_trash.train.shared_board import SharedBoard


@dataclass(frozen=True)
class TrainResult:
    """A finished run: its directory, best checkpoint and best epoch's record, and the photos kept back for testing."""

    run: Storage
    checkpoint: Storage
    record: Mapping[str, Any]
    n_test: int


@dataclass(frozen=True)
class SweepShare:
    """What a run that is a trial has from its sweep: the photos of all trials, and the workers of one.

    `runs_at_once` trials share the cluster, `runs_per_machine` of them the processors of one machine.
    What is reported of an epoch goes to `on_epoch` where a trial trains in its own process, and to Ray Train's
    `callbacks` where it has workers.
    """

    photos: TrainingPhotos
    plan: WorkerPlan
    runs_at_once: int = 1
    runs_per_machine: int = 1
    on_epoch: Callable[[Mapping[str, float]], None] = lambda _: None
    callbacks: tuple[UserCallback, ...] = ()


def prepare_run(
    config: Config, *, resume: bool, overwrite: bool, terminal: Terminal, allow_changed_data: bool = False
) -> PreparedRun:
    """Check everything that can be checked before Ray has started, and write nothing."""
    run = Storage.at(config.storage).child(config.name)
    refuse_existing(run, resume=resume, overwrite=overwrite)
    require_mlflow(config)
    listing, rule = list_and_split(config, terminal)
    refuse_data_inside(run, Storage.at(listing.root))
    # Loaded here, once: workers may have no network, and they must all begin with the same head.
    network = seeded_network(config, len(listing.classes))
    for line in load_pretrained(
        network, config.model.weights, architecture=config.model.architecture, terminal=terminal
    ):
        terminal.say(line)
    return PreparedRun(config, run, listing, rule, plain_state(network.state_dict()), overwrite, allow_changed_data)


def list_and_split(config: Config, terminal: Terminal | None = None) -> tuple[Listing, SplitRule]:
    """List the photos of a config and make the rule that splits them; none is opened."""
    data = config.data
    listing = list_photos(data.root, data.classes, data.labels, follow_links=data.follow_links, terminal=terminal)
    require_two_classes(listing)
    return listing, make_rule(data.split, data.val_fraction, data.test_fraction, listing)


def run_training(prepared: PreparedRun, *, terminal: Terminal, share: SweepShare | None = None) -> TrainResult:
    """Train as the config says; needs a connection to Ray where `needs_ray` says so.

    `share` is what a trial has from its sweep. Default: the run looks at its photos itself.
    """
    config, run, say = prepared.config, prepared.run, terminal.say
    plan = share.plan if share else _plan(prepared, say)
    elastic = share is None and isinstance(config.train.workers, tuple)
    with recorded(run, "run", overwrite=prepared.overwrite, say=say) as attempt:
        if prepared.written is not None:
            run.write_bytes(CONFIG_YAML, prepared.written.encode())
        if share is None:
            share = SweepShare(prepare_photos(prepared, terminal, begun=run.exists(METRICS)), plan)
            run.write_bytes(AUGMENTATION_SHEET, augmentation_sheet(config, share.photos, prepared.listing.root))
        photos = share.photos
        most = config.train.sharers(plan.workers)
        if len(photos.train) < most:
            raise DataError(f"train.workers: {most} workers for {len(photos.train)} training photos; use fewer workers")
        require_no_batch_of_one(config, len(photos.train), plan.workers)
        run.write_bytes("config.json", to_json(config).encode())
        job = TrainJob(
            config=config,
            classes=photos.classes,
            root=prepared.listing.root,
            train=photos.train,
            val=photos.val,
            data=photos.data,
            run_uri=run.uri,
            attempt=attempt,
            in_memory=photos.decoded is not None,
            device=plan.device,
            board=Board() if plan.in_process else _shared_board(),
            runs_at_once=share.runs_at_once,
            runs_per_machine=share.runs_per_machine,
        )
        stretches = Stretches(run, say)
        with Display(terminal).following(job.board, listen=stretches.listen):
            if plan.in_process:
                train_here(job, prepared.initial, photos.decoded, share.on_epoch)
            else:
                # Ray Train takes seconds to load.
                from ray_trash.train.fit import fit_with
                from ray_trash.train.supervise import supervise

                fit = fit_with(job, run, photos.decoded, prepared.initial, share.callbacks)
                supervise(job, plan, fit, stretches, say, elastic=elastic)
        stretches.close()
        if (found := read_range_test(run)) is not None:
            update_run(run, {"learning_rate": found.learning_rate})
        best = next(record for record in reversed(read_metrics(run)) if record["is_best"])
    return TrainResult(run, run.child(BEST), best, photos.data["n"].get("test", 0))


def _shared_board() -> SharedBoard:
    from ray_trash.train.shared_board import SharedBoard

    return SharedBoard()


def _plan(prepared: PreparedRun, say: Callable[[str], None]) -> WorkerPlan:
    config = prepared.config
    if config.train.workers == 0 or not needs_ray(prepared):
        return plan_in_process(config)
    from ray_trash.cluster.growing import wait_for_workers

    return wait_for_workers(config.train, say)


def plan_in_process(config: Config) -> WorkerPlan:
    """Plan a training in this process; a GPU that it does not see is a `ClusterError`."""
    device = resolve_device(config.train.device).type
    return WorkerPlan(1, "cuda" if device == "cuda" else "cpu", cpus_per_worker=0.0, in_process=True)
