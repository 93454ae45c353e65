"""The best trials and the config as written once more, with other seeds, and what that says of the winner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_trash.evaluate.metrics import direction_of
from ray_trash.model.checkpoint import open_checkpoint
from ray_trash.terminal.say import Terminal
from ray_trash.train.run_directory import BEST
from ray_trash.train.state import VAL_PROBABILITIES
from ray_trash.tune.search import Point
from ray_trash.tune.trial import Sweep
from ray_trash.tune.trials import AS_WRITTEN, TrialRecord, directory_of, ranked
from ray_trash.tune.tuner import train_to_end
from ray_trash.tune.verdict import judge, verdict_lines


@dataclass(frozen=True)
class Finals:
    """How the sweep ended: the winner's trial number and the run directory of its best training, below the sweep's.

    `lines` are sentences for people, `document` the content of `verdict.json`.
    """

    winner: int
    run: str
    lines: tuple[str, ...]
    document: Mapping[str, Any]


def compare_finalists(sweep: Sweep, order: Sequence[TrialRecord], terminal: Terminal) -> Finals:
    """Train the finalists with fresh seeds, compare them, and name the winner.

    `order` holds all trials that have a value, the best first; at least one.
    """
    config = sweep.config
    written = [record for record in order if record.trial == AS_WRITTEN]  # none where it could not be trained
    contenders = [*written, *[record for record in order if record.trial != AS_WRITTEN][: config.tune.finalists]]
    if len(contenders) == 1:
        return _undoubted(contenders[0], f"trial {contenders[0].trial}, the only one that could be trained")
    if config.tune.verdict_seeds == 0:
        why = f"trial {order[0].trial}, by {sweep.metric} of one seed; not verified (tune.verdict_seeds=0)"
        return _undoubted(order[0], why)
    seeds = [config.seed + offset for offset in range(1, config.tune.verdict_seeds + 1)]
    numbers = ", ".join(str(record.trial) for record in contenders)
    terminal.say(f"finals: trials {numbers}, with {len(seeds)} other seeds each")
    points = [
        Point(record.trial, f"finals/{record.trial:03d}-seed-{seed}", {**record.params, "seed": seed})
        for record in contenders
        for seed in seeds
    ]
    records = [record for record in train_to_end(sweep, points, terminal) if record.status == "done"]
    trained = {one.trial: [record for record in records if record.trial == one.trial] for one in contenders}
    complete = {trial: own for trial, own in trained.items() if len(own) == len(seeds)}
    lost = [f"trial {trial} could not be trained with every seed" for trial in trained if trial not in complete]
    if AS_WRITTEN not in complete or len(complete) < 2:
        winner = next((record for record in order if record.trial in complete), order[0])
        why = f"trial {winner.trial}, by {sweep.metric} of one seed; there is nothing to compare it with"
        return _undoubted(winner, why, lost)
    verdict = judge({trial: _correct(sweep, own) for trial, own in complete.items()}, seed=config.seed)
    best = ranked(complete[verdict.winner], higher_is_better=direction_of(sweep.metric) == "max")[0]
    document = {"metric": "accuracy on validation", "seed_numbers": seeds, **asdict(verdict)}
    return Finals(verdict.winner, best.run, (*lost, *verdict_lines(verdict)), document)


def _undoubted(winner: TrialRecord, why: str, lost: Sequence[str] = ()) -> Finals:
    lines = (*lost, f"winner: {why}")
    return Finals(winner.trial, winner.run, lines, {"winner": winner.trial, "reason": "; ".join(lines)})


def _correct(sweep: Sweep, records: Sequence[TrialRecord]) -> NDArray[np.bool_]:
    """Say of each training which validation photos its best epoch answered rightly: (S, N)."""
    best = [directory_of(sweep.run, record.run).child(BEST) for record in records]
    said = [open_checkpoint(one, with_trainer=True).trainer()[VAL_PROBABILITIES].numpy() for one in best]  # (N, C) each
    return np.stack([probabilities.argmax(1) == sweep.photos.val.labels for probabilities in said])
