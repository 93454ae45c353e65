"""The driver of a sweep: photos and weights once, trials on Ray Tune, a verdict, and the winner's checkpoint.

```
<storage>/<name>/
  trials/000/ ...       one run directory a trial; 000 is the config as written
  finals/003-seed-1/    the finalists again, with other seeds
  trials.json           every trial
  verdict.json          whether the winner is really better
  best_config.yaml      the config with the winner's values
  checkpoint/           the winner, servable
```
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ray_trash.cluster.capacity import TrialPlan
from ray_trash.cluster.growing import wait_for_trials
from ray_trash.config import Config, Dimension, config_with, to_json
from ray_trash.errors import ConfigError, DivergedError, RayTrashError
from ray_trash.evaluate.metrics import direction_of
from ray_trash.model.checkpoint import MARKER
from ray_trash.model.tensors import HEAD_PREFIX
from ray_trash.storage import Storage
from ray_trash.terminal.say import Terminal
from ray_trash.terminal.text import counted
from ray_trash.train.photos import PreparedRun, prepare_photos
from ray_trash.train.run import prepare_run
from ray_trash.train.run_directory import BEST, RUN, read_metrics, read_run
from ray_trash.train.run_record import recorded
from ray_trash.tune.activations import share_activations
from ray_trash.tune.finals import Finals, compare_finalists
from ray_trash.tune.search import TRIALS, Point
from ray_trash.tune.space import points, require_optuna, search_space
from ray_trash.tune.summary import summary_line
from ray_trash.tune.trial import Sweep
from ray_trash.tune.trials import (
    AS_WRITTEN,
    TRIALS_FILE,
    VERDICT_FILE,
    TrialRecord,
    directory_of,
    metric_of,
    ranked,
    records_from_json,
    trials_json,
)
from ray_trash.tune.tuner import search

BEST_CONFIG = "best_config.yaml"


@dataclass(frozen=True)
class PreparedSweep:
    """A sweep whose mistakes that show without a cluster have been looked for.

    `base` is of the config as written; `points` are those known beforehand, the config as written first.
    """

    base: PreparedRun
    space: Mapping[str, Dimension]
    points: tuple[Point, ...]

    @property
    def n_trials(self) -> int:
        """How many trials there are to be; Optuna chooses those that are no points yet."""
        tune = self.base.config.tune
        return tune.trials if tune.search == "optuna" else len(self.points)


@dataclass(frozen=True)
class SweepResult:
    """A finished sweep: its directory, the winner's checkpoint and trial, and all trials, the config as written first.

    `verdict` is the content of `verdict.json`, `n_test` the number of photos the split keeps back for testing.
    """

    run: Storage
    checkpoint: Storage
    winner: TrialRecord
    records: tuple[TrialRecord, ...]
    verdict: Mapping[str, Any]
    n_test: int


def prepare_sweep(
    config: Config, *, resume: bool, overwrite: bool, terminal: Terminal, allow_changed_data: bool = False
) -> PreparedSweep:
    """Check everything that can be checked before Ray has started, and write nothing; arguments as of `prepare_run`."""
    if config.tune.search == "optuna":
        require_optuna()
    space = search_space(config)
    known = tuple(Point.of_trial(number, params) for number, params in enumerate(points(config, space)))
    base = prepare_run(
        config, resume=resume, overwrite=overwrite, terminal=terminal, allow_changed_data=allow_changed_data
    )
    return PreparedSweep(base, space, known)


def run_sweep(prepared: PreparedSweep, source: str, *, terminal: Terminal) -> SweepResult:
    """Search, judge, and leave the winner; needs a connection to Ray. `source` is the text of the config file."""
    base, config = prepared.base, prepared.base.config
    plan = wait_for_trials(config.train, config.tune, prepared.n_trials, terminal.say)
    with recorded(base.run, "sweep", overwrite=base.overwrite, say=terminal.say):
        finished = _finished(base.run, metric_of(config))
        sweep = _build(prepared, plan, finished, terminal)
        decided, workers = _with_history(prepared.points, finished), plan.workers
        terminal.say(
            f"{prepared.n_trials} trials over {', '.join(prepared.space)}; {plan.concurrent} at a time, "
            f"{counted(workers.workers, 'worker')} on {workers.device} each; scheduler {config.tune.scheduler}, "
            f"compared by {sweep.metric}"
        )
        records = search(
            sweep,
            prepared.space,
            decided,
            terminal,
            n_trials=max(prepared.n_trials, len(decided)),
            finished=finished,
            keep=lambda records: sweep.run.write_bytes(TRIALS_FILE, trials_json(records)),
        )
        higher = direction_of(sweep.metric) == "max"
        order = ranked(records, higher_is_better=higher)
        if not order:
            raise _all_failed(sweep.run, records)
        finals = compare_finalists(sweep, order, terminal)
        winner = next(record for record in records if record.trial == finals.winner)
        summary = summary_line(records, sweep, prepared.space)
        _leave_winner(sweep.run, finals, winner, source, summary)
        for line in (summary, *finals.lines):
            terminal.say(line)
    n_test = sweep.photos.data["n"].get("test", 0)
    return SweepResult(base.run, base.run.child(BEST), winner, tuple(records), finals.document, n_test)


def _finished(run: Storage, metric: str) -> list[TrialRecord]:
    if not run.exists(TRIALS_FILE):
        return []
    return [
        replace(record, curve=tuple(float(epoch[metric]) for epoch in read_metrics(directory_of(run, record.run))))
        for record in records_from_json(run.read_bytes(TRIALS_FILE))
    ]


def _build(prepared: PreparedSweep, plan: TrialPlan, finished: Sequence[TrialRecord], terminal: Terminal) -> Sweep:
    base, config, run = prepared.base, prepared.base.config, prepared.base.run
    photos = prepare_photos(base, terminal, begun=run.exists(TRIALS))
    run.write_bytes("config.json", to_json(config).encode())
    # A head is of a trial's own seed, and random weights are all of it.
    has_backbone = config.model.weights != "none"
    backbone = {k: v for k, v in base.initial.items() if has_backbone and not k.startswith(HEAD_PREFIX)}
    base = replace(base, initial=backbone)
    return Sweep(
        base=base,
        metric=metric_of(config),
        photos=photos,
        plan=plan,
        cached_stages=share_activations(base, photos, plan.workers, prepared.points, terminal),
        finished=frozenset(record.run for record in finished),
    )


def _with_history(points: Sequence[Point], finished: Sequence[TrialRecord]) -> list[Point]:
    # Points that Optuna chose before the sweep was cut short are given out again, so that it learns from them.
    by_number = {point.number: point for point in points}
    for record in finished:
        point = by_number.setdefault(record.trial, Point(record.trial, record.run, record.params))
        if dict(point.params) != dict(record.params):
            raise ConfigError(
                f"tune: trial {record.trial} of this sweep was trained with other values than the config now says; "
                "go on with the config it was begun with, or start anew with --overwrite"
            )
    return [by_number[number] for number in sorted(by_number)]


def _leave_winner(run: Storage, finals: Finals, winner: TrialRecord, source: str, summary: str) -> None:
    run.remove(f"{BEST}/{MARKER}")
    run.copy(f"{finals.run}/{BEST}", BEST, last=MARKER)
    changes = {} if winner.trial == AS_WRITTEN else winner.params
    run.write_bytes(BEST_CONFIG, config_with(source, changes).encode())
    verdict = {"summary": summary, **finals.document}
    run.write_bytes(VERDICT_FILE, (json.dumps(verdict, indent=2) + "\n").encode())


def _all_failed(run: Storage, records: Sequence[TrialRecord]) -> RayTrashError:
    reasons = "; ".join(f"trial {record.trial}: {record.stop_reason}" for record in records)
    runs = [directory_of(run, record.run) for record in records]
    kinds = {read_run(one).get("error_kind") if one.exists(RUN) else None for one in runs}
    error = DivergedError if kinds == {DivergedError.__name__} else RayTrashError
    return error(f"all {len(records)} trials failed: {reasons}")
