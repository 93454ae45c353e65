"""Points through Ray Tune: searched, with the losing ones stopped, or all of them trained to their end."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence

import ray.tune

from ray_trash.cluster.waiting import wait_in_thread
from ray_trash.config import Dimension
from ray_trash.evaluate.metrics import direction_of
from ray_trash.terminal.say import Terminal
from ray_trash.train.run_directory import RAY
from ray_trash.tune.schedulers import Nobody, Scheduler, build_scheduler
from ray_trash.tune.search import Point, PointSearch
from ray_trash.tune.space import optuna_space
from ray_trash.tune.trial import Sweep, run_trial
from ray_trash.tune.trials import TrialRecord
from ray_trash.tune.watch import Watch

RETRIES = 1
"""How often a trial whose process died, or that raised something unforeseen, is tried again."""


def search(
    sweep: Sweep,
    space: Mapping[str, Dimension],
    points: Sequence[Point],
    terminal: Terminal,
    *,
    n_trials: int,
    finished: Sequence[TrialRecord],
    keep: Callable[[Sequence[TrialRecord]], None],
) -> list[TrialRecord]:
    """Train points, then further ones of Optuna's up to `n_trials`; losing trials are stopped.

    Trials in `finished` need no training any more. `keep` is given all records whenever one more trial is over.
    """
    further = None
    if n_trials > len(points):
        from ray.tune.search.optuna import OptunaSearch

        mode = direction_of(sweep.metric)
        further = OptunaSearch(optuna_space(space), metric=sweep.metric, mode=mode, seed=sweep.config.seed)
    scheduler = build_scheduler(sweep.config)
    watch = Watch(sweep, scheduler.stopped, terminal, finished=finished, keep=keep)
    return _trained(sweep, PointSearch(points, further), n_trials, scheduler, watch)


def train_to_end(sweep: Sweep, points: Sequence[Point], terminal: Terminal) -> list[TrialRecord]:
    """Train points to their end and return a record for each, in the order of their numbers."""
    scheduler = Nobody()
    watch = Watch(sweep, scheduler.stopped, terminal)
    return _trained(sweep, PointSearch(points), len(points), scheduler, watch)


def _trained(sweep: Sweep, points: PointSearch, n_points: int, scheduler: Scheduler, watch: Watch) -> list[TrialRecord]:
    ray_files = sweep.run.child(RAY)
    tuner = ray.tune.Tuner(
        ray.tune.with_resources(ray.tune.with_parameters(run_trial, sweep=sweep), sweep.plan.resources_per_trial),
        tune_config=ray.tune.TuneConfig(
            metric=sweep.metric,
            mode=direction_of(sweep.metric),
            search_alg=points,
            scheduler=scheduler,
            num_samples=n_points,
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
