"""The driver of a sweep: photos and weights once, trials on Ray Tune, a verdict, and the winner's checkpoint.

```
<storage>/<name>/
  trials/000/ ...       one run directory a trial; 000 is the config as written
  finals/003-seed-1/    the finalists again, with other seeds
  trials.json           every trial
  verdict.json          whether the winner is really better
  best_config.yaml      the config with the winner's values
  checkpoint/           the winner, servable
  sweep.html            all of it, to look at
```
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray
import ray.tune

from ray_trash.cluster.capacity import count_machines, plan_trials
from ray_trash.cluster.waiting import wait_in_thread
from ray_trash.config import Config, Dimension, config_with, to_json
from ray_trash.errors import ConfigError, DivergedError, RayTrashError
from ray_trash.evaluate.metrics import direction_of
from ray_trash.model.checkpoint import MARKER
from ray_trash.storage import Storage
from ray_trash.terminal.say import Terminal
from ray_trash.train.photos import prepare_photos
from ray_trash.train.run import PreparedRun
from ray_trash.train.run_directory import BEST, RAY
from ray_trash.train.run_record import recorded
from ray_trash.tune.finals import Finals, finalists, hold_finals
from ray_trash.tune.page import PAGE_FILE, sweep_page
from ray_trash.tune.savings import savings_line
from ray_trash.tune.schedulers import build_scheduler
from ray_trash.tune.search import TRIALS, Point, PointSearch, trial_run
from ray_trash.tune.shared import share_activations
from ray_trash.tune.space import optuna_space, points, require_optuna, search_space
from ray_trash.tune.trial import Sweep, below_the_head, history_of, run_trial
from ray_trash.tune.trials import TRIALS_FILE, Params, TrialRecord, ranked, records_from_json, trials_json
from ray_trash.tune.watch import Watch

BEST_CONFIG = "best_config.yaml"
VERDICT_FILE = "verdict.json"
RETRIES = 1
"""How often a trial whose process died, or that raised something unforeseen, is tried again."""


@dataclass(frozen=True)
class SweepResult:
    """A finished sweep.

    Attributes:
        run: Its directory.
        checkpoint: The winner's.
        winner: Its trial.
        records: Of all trials, the config as written first.
        verdict: Content of `verdict.json`.
        n_test: Photos the split keeps back for testing.
    """

    run: Storage
    checkpoint: Storage
    winner: TrialRecord
    records: tuple[TrialRecord, ...]
    verdict: Mapping[str, Any]
    n_test: int


def check_space(config: Config) -> tuple[dict[str, Dimension], tuple[Params, ...]]:
    """Check what a sweep would try, before anything starts.

    Returns:
        The search space, and the points that are known beforehand, the config as written first.

    Raises:
        ConfigError: A key cannot be searched, a value or a combination is refused, or Optuna is missing.
    """
    if config.tune.search == "optuna":
        require_optuna()
    space = search_space(config)
    return space, points(config, space)


def run_sweep(prepared: PreparedRun, source: str, *, terminal: Terminal) -> SweepResult:
    """Search, judge, and leave the winner; needs a connection to Ray.

    Args:
        prepared: Of `prepare_run`, whose config is the config as written.
        source: Text of the config file, for `best_config.yaml`.
        terminal: Where progress goes.

    Raises:
        RayTrashError: Anything a user can put right, by its kind; that all trials failed, with their reasons.
    """
    config, run = prepared.config, prepared.run
    say = terminal.say
    space, known = check_space(config)
    numbered = [Point(number, trial_run(number), params) for number, params in enumerate(known)]
    plan = plan_trials(
        config.train,
        config.tune,
        ray.cluster_resources(),
        machines=count_machines(),
        trials=max(len(numbered), config.tune.trials if config.tune.search == "optuna" else 1),
    )
    with recorded(run, "sweep", overwrite=prepared.overwrite, say=say):
        photos = prepare_photos(
            config,
            prepared.listing,
            prepared.rule,
            run,
            say,
            begun=run.exists(TRIALS),
            allow_changed_data=prepared.allow_changed_data,
        )
        run.write_bytes("config.json", to_json(config).encode())
        return _search_and_judge(
            Sweep(
                config=config,
                metric=metric_of(config),
                run_uri=run.uri,
                listing=prepared.listing,
                photos=photos,
                backbone=None if config.model.weights == "none" else below_the_head(prepared.initial),
                plan=plan,
                shared_cuts=None,
            ),
            run,
            space,
            numbered,
            source,
            say,
            terminal,
        )


def metric_of(config: Config) -> str:
    """Return what trials are compared by, always measured on validation."""
    return config.train.select_by if config.train.select_by.startswith("val_") else "val_macro_f1"


def _search_and_judge(
    sweep: Sweep,
    run: Storage,
    space: Mapping[str, Dimension],
    numbered: Sequence[Point],
    source: str,
    say: Callable[[str], None],
    terminal: Terminal,
) -> SweepResult:
    config, higher = sweep.config, direction_of(sweep.metric) == "max"
    shared = share_activations(sweep, numbered, say)
    sweep = replace(sweep, shared_cuts=shared.cuts)
    workers = sweep.plan.workers
    say(
        f"{max(len(numbered), _wanted(config, numbered))} trials over {', '.join(space)}; "
        f"{sweep.plan.concurrent} at a time, {workers.workers} worker{'s' * (workers.workers > 1)} on "
        f"{workers.device} each; scheduler {config.tune.scheduler}, compared by {sweep.metric}"
    )

    def keep(records: Sequence[TrialRecord]) -> None:
        run.write_bytes(TRIALS_FILE, trials_json(records))

    finished = _finished(run, sweep.metric)
    records = run_points(
        sweep, run, _with_history(numbered, finished), terminal, space=space, finished=finished, keep=keep
    )
    order = ranked(records, higher_is_better=higher)
    if not order:
        raise _all_failed(records)
    finals = hold_finals(sweep, run, finalists(order, config), order, say, terminal, run_points)
    winner = next(record for record in records if record.trial == finals.winner)
    _leave_winner(run, finals, winner, source)
    lines = [savings_line(records, config, space, shared, concurrent=sweep.plan.concurrent), *finals.lines]
    page = sweep_page(config.name, records, space, metric=sweep.metric, higher_is_better=higher, lines=lines)
    run.write_bytes(PAGE_FILE, page)
    for line in lines:
        say(line)
    return SweepResult(
        run, run.child(BEST), winner, tuple(records), finals.document, sweep.photos.data["n"].get("test", 0)
    )


def run_points(
    sweep: Sweep,
    run: Storage,
    numbered: Sequence[Point],
    terminal: Terminal,
    *,
    space: Mapping[str, Dimension] | None = None,
    finished: Sequence[TrialRecord] = (),
    keep: Callable[[Sequence[TrialRecord]], None] = lambda _: None,
) -> list[TrialRecord]:
    """Train points on Ray Tune and say how each of them ended.

    Args:
        sweep: The sweep.
        run: Its directory.
        numbered: The points.
        terminal: Where progress goes.
        space: What is searched; left out, the points are trained to their end and nothing is added to them.
        finished: Points that need no training any more.
        keep: Called with the records whenever one is added.

    Returns:
        One record a point, in the order of their numbers.
    """
    config, pruned = sweep.config, space is not None
    scheduler = build_scheduler(config, prune=pruned)
    n_samples = _wanted(config, numbered) if space is not None else len(numbered)
    further = None
    if space is not None and config.tune.search == "optuna" and n_samples > len(numbered):
        from ray.tune.search.optuna import OptunaSearch

        further = OptunaSearch(
            optuna_space(space), metric=sweep.metric, mode=direction_of(sweep.metric), seed=config.seed
        )
    sweep = replace(sweep, finished=frozenset(record.run for record in finished))
    ray_files = run.child(RAY)
    watch = Watch(
        run, sweep.metric, scheduler.stopped, terminal, epochs=config.train.epochs, finished=finished, keep=keep
    )
    tuner = ray.tune.Tuner(
        ray.tune.with_resources(ray.tune.with_parameters(run_trial, sweep=sweep), sweep.plan.resources_per_trial),
        tune_config=ray.tune.TuneConfig(
            metric=sweep.metric,
            mode=direction_of(sweep.metric),
            search_alg=PointSearch(numbered, further),
            scheduler=scheduler,
            num_samples=n_samples,
            max_concurrent_trials=sweep.plan.concurrent,
            # The next trial takes over the process of the last one, with all it has imported.
            reuse_actors=sweep.plan.workers.in_process,
        ),
        run_config=ray.tune.RunConfig(
            name=f"tune-{secrets.token_hex(4)}",
            storage_path=ray_files.path,
            storage_filesystem=ray_files.filesystem,
            failure_config=ray.tune.FailureConfig(max_failures=RETRIES),
            callbacks=[watch],
            verbose=0,
        ),
    )
    with watch:
        wait_in_thread(tuner.fit, name="ray-tune")
    return sorted(watch.records.values(), key=lambda record: record.trial)


def _wanted(config: Config, numbered: Sequence[Point]) -> int:
    return config.tune.trials if config.tune.search == "optuna" else len(numbered)


def _finished(run: Storage, metric: str) -> list[TrialRecord]:
    if not run.exists(TRIALS_FILE):
        return []
    return [
        replace(record, curve=tuple(float(epoch[metric]) for epoch in history_of(run.child(*record.run.split("/")))))
        for record in records_from_json(run.read_bytes(TRIALS_FILE))
    ]


def _with_history(numbered: Sequence[Point], finished: Sequence[TrialRecord]) -> list[Point]:
    # Points that Optuna chose before the sweep was cut short are given out again, so that it learns from them.
    known = {point.number: point for point in numbered}
    for record in finished:
        before = known.setdefault(record.trial, Point(record.trial, record.run, record.params))
        if dict(before.params) != dict(record.params):
            raise ConfigError(
                f"tune: trial {record.trial} of this sweep was trained with other values than the config now says; "
                "go on with the config it was begun with, or start anew with --overwrite"
            )
    return [known[number] for number in sorted(known)]


def _leave_winner(run: Storage, finals: Finals, winner: TrialRecord, source: str) -> None:
    run.remove(f"{BEST}/{MARKER}")
    run.copy(f"{finals.run}/{BEST}", BEST, last=MARKER)
    run.write_bytes(BEST_CONFIG, config_with(source, winner.params if winner.trial else {}).encode())
    run.write_bytes(VERDICT_FILE, (json.dumps(finals.document, indent=2) + "\n").encode())


def _all_failed(records: Sequence[TrialRecord]) -> RayTrashError:
    reasons = "; ".join(f"trial {record.trial}: {record.stop_reason}" for record in records)
    diverged = all("diverged" in record.stop_reason for record in records)
    return (DivergedError if diverged else RayTrashError)(f"all {len(records)} trials failed: {reasons}")
