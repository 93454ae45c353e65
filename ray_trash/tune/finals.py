"""The best trials and the config as written once more, with other seeds, and what that says of the winner."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ray_trash.config import Config
from ray_trash.evaluate.metrics import direction_of
from ray_trash.model.checkpoint import open_checkpoint
from ray_trash.storage import Storage
from ray_trash.terminal.say import Terminal
from ray_trash.train.run_directory import BEST
from ray_trash.train.state import VAL_PROBABILITIES
from ray_trash.tune.search import Point
from ray_trash.tune.trial import Sweep
from ray_trash.tune.trials import TrialRecord, ranked
from ray_trash.tune.verdict import AS_WRITTEN, judge, verdict_json, verdict_lines


class RunPoints(Protocol):
    """Trains points and says how each of them ended: `sweep.run_points`."""

    def __call__(self, sweep: Sweep, run: Storage, numbered: Sequence[Point], terminal: Terminal) -> list[TrialRecord]:
        """Train them."""
        ...


@dataclass(frozen=True)
class Finals:
    """How the sweep ended.

    Attributes:
        winner: Its trial number.
        run: Run directory of its best training, relative to the sweep's.
        lines: What there is to say.
        document: Content of `verdict.json`.
    """

    winner: int
    run: str
    lines: tuple[str, ...]
    document: Mapping[str, Any]


def finalists(order: Sequence[TrialRecord], config: Config) -> list[TrialRecord]:
    """Choose who is trained again: the best trials, and the config as written if it could be trained."""
    written = [record for record in order if record.trial == AS_WRITTEN]
    others = [record for record in order if record.trial != AS_WRITTEN]
    return [*written, *others[: config.tune.finalists]]


def hold_finals(
    sweep: Sweep,
    run: Storage,
    contenders: Sequence[TrialRecord],
    order: Sequence[TrialRecord],
    say: Callable[[str], None],
    terminal: Terminal,
    run_points: RunPoints,
) -> Finals:
    """Train the finalists with fresh seeds, compare them, and name the winner.

    Args:
        sweep: The sweep.
        run: Its directory.
        contenders: From `finalists`.
        order: All trials that have a value, the best first.
        say: Takes lines for people.
        terminal: Where progress goes.
        run_points: Trains them.
    """
    config = sweep.config
    best = order[0]
    if len(contenders) == 1:
        only = contenders[0]
        line = f"verdict: trial {only.trial} is the only one that could be trained"
        return Finals(only.trial, only.run, (line,), {"winner": only.trial, "reason": line})
    if config.tune.verdict_seeds == 0:
        untested = "not tried with other seeds (tune.verdict_seeds=0)"
        line = f"verdict: trial {best.trial} has the best {sweep.metric}; {untested}"
        return Finals(best.trial, best.run, (line,), {"winner": best.trial, "reason": line})
    seeds = [config.seed + offset for offset in range(1, config.tune.verdict_seeds + 1)]
    say(f"finals: trials {', '.join(str(record.trial) for record in contenders)}, with {len(seeds)} other seeds each")
    numbered = [
        Point(record.trial, f"finals/{record.trial:03d}-seed-{seed}", {**record.params, "seed": seed})
        for record in contenders
        for seed in seeds
    ]
    records = run_points(sweep, run, numbered, terminal)
    complete = {
        record.trial: [one for one in records if one.trial == record.trial and one.status == "done"]
        for record in contenders
    }
    complete = {trial: own for trial, own in complete.items() if len(own) == len(seeds)}
    lost = [
        f"trial {record.trial} could not be trained with every seed"
        for record in contenders
        if record.trial not in complete
    ]
    if AS_WRITTEN not in complete or len(complete) < 2:
        winner = next((record for record in order if record.trial in complete), best)
        line = f"verdict: trial {winner.trial} has the best {sweep.metric}; there is nothing to compare it with"
        return Finals(
            winner.trial, winner.run, (*lost, line), {"winner": winner.trial, "reason": "; ".join([*lost, line])}
        )
    labels = sweep.photos.val.labels
    verdict = judge({trial: _correct(run, own, labels) for trial, own in complete.items()}, seed=config.seed)
    higher = direction_of(sweep.metric) == "max"
    shown = ranked(complete[verdict.winner], higher_is_better=higher)[0]
    return Finals(
        verdict.winner,
        shown.run,
        (*lost, *verdict_lines(verdict)),
        {"metric": "accuracy on validation", "seed_numbers": seeds, **verdict_json(verdict)},
    )


def _correct(run: Storage, records: Sequence[TrialRecord], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    rows = []
    for record in records:
        checkpoint = open_checkpoint(run.child(*record.run.split("/"), BEST), with_trainer=True)
        probabilities = checkpoint.trainer()[VAL_PROBABILITIES].numpy()
        rows.append(probabilities.argmax(1) == labels)
    return np.stack(rows)
