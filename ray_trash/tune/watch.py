"""A sweep while it runs: every trial's state, recorded where it ends, said in lines or shown as a live table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ray.tune import Callback
from rich.live import Live
from rich.table import Table

from ray_trash.evaluate.metrics import direction_of
from ray_trash.terminal.say import Terminal
from ray_trash.terminal.text import last_line
from ray_trash.train.run_directory import RUN, read_metrics, read_run
from ray_trash.train.schedule import is_better
from ray_trash.tune.schedulers import EPOCH
from ray_trash.tune.search import TRIALS, Point
from ray_trash.tune.trial import Sweep
from ray_trash.tune.trials import Status, TrialRecord, directory_of

_REFRESH_PER_S = 2


def read_trial(sweep: Sweep, point: Point, *, stopped_at: int | None, error: str | None) -> TrialRecord:
    """Say how a trial ended, from what its run directory holds.

    `stopped_at` is the epoch after which the scheduler stopped it; `error` what Ray Tune says went wrong.
    """
    own, metric = directory_of(sweep.run, point.run), sweep.metric
    history = read_metrics(own)
    best: dict[str, Any] | None = None
    for epoch in history:
        before = None if best is None else best[metric]
        if sweep.config.train.select_by == "last" or is_better(epoch[metric], before, direction_of(metric)):
            best = epoch
    document = read_run(own) if own.exists(RUN) else {}
    status: Status = "failed"
    reason = error or "its process died"
    if document.get("status") == "done":
        status, reason = "done", history[-1]["stop_reason"]
    elif stopped_at is not None:
        status, reason = "pruned", f"stopped by the scheduler after epoch {stopped_at}"
    elif document.get("status") == "failed":
        reason = str(document.get("reason"))
    return TrialRecord(
        trial=point.number,
        params=point.params,
        run=point.run,
        epochs_run=len(history),
        best_epoch=None if best is None else best["epoch"],
        best_value=None if best is None else best[metric],
        metrics={key: value for key, value in (best or {}).items() if key.startswith("val_")},
        seconds=sum(epoch["seconds"] for epoch in history),
        status=status,
        stop_reason=reason,
        curve=tuple(epoch[metric] for epoch in history),
    )


class Watch(Callback):
    """Follows the trials of one Ray Tune run."""

    def __init__(
        self,
        sweep: Sweep,
        stopped: Mapping[str, int],
        terminal: Terminal,
        *,
        finished: Sequence[TrialRecord] = (),
        keep: Callable[[Sequence[TrialRecord]], None] = lambda _: None,
    ) -> None:
        """Start with the trials that an earlier start of the sweep has finished.

        `stopped` holds the epoch after which the scheduler stopped a trial, by run directory; `keep` is given all
        records whenever one more trial is over.
        """
        self._sweep, self._stopped, self._terminal, self._keep = sweep, stopped, terminal, keep
        self.records = {record.run: record for record in finished}
        self._rows: dict[str, tuple[str, ...]] = {}
        self._live = Live(console=terminal.console, refresh_per_second=_REFRESH_PER_S, transient=True)
        for record in finished:
            self._show_end(record)

    def __getstate__(self) -> dict[str, Any]:
        """Give nothing to the copy that Ray Tune keeps: a sweep goes on from its own record of its trials."""
        return {}

    def __enter__(self) -> Watch:
        """Show the live table, where it can be live."""
        if self._terminal.is_live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take the live table away."""
        self._live.stop()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Show that a trial begins."""
        point = Point(**trial.config)
        if point.run not in self.records:
            self._terminal.say(f"trial {_label(point)} starts: {_words(point.params)}")
            self._show(point, "running", 0)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Show an epoch of a trial."""
        point = Point(**trial.config)
        if point.run not in self.records and EPOCH in result:
            self._show(point, "running", result[EPOCH], f"{result[self._sweep.metric]:.4f}")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record a trial that has ended."""
        self._end(trial, None)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record a trial that Ray Tune has given up."""
        error = trial.get_error()
        self._end(trial, None if error is None else last_line(error))

    def _end(self, trial: Any, error: str | None) -> None:
        point = Point(**trial.config)
        if point.run in self.records:
            return
        record = read_trial(self._sweep, point, stopped_at=self._stopped.get(point.run), error=error)
        self.records[point.run] = record
        self._keep(list(self.records.values()))
        best = self._show_end(record)
        what = f"best {self._sweep.metric} {best} in epoch {record.best_epoch}, " if best else ""
        self._terminal.say(f"trial {_label(point)} {record.status}: {what}{record.stop_reason}, {record.seconds:.0f} s")

    def _show_end(self, record: TrialRecord) -> str:
        best = "" if record.best_value is None else f"{record.best_value:.4f}"
        point = Point(record.trial, record.run, record.params)
        self._show(point, record.status, record.epochs_run, best, record.stop_reason)
        return best

    def _show(self, point: Point, status: str, epoch: int, value: str = "", reason: str = "") -> None:
        epochs = f"{epoch}/{self._sweep.config.train.epochs}"
        self._rows[point.run] = (_label(point), _words(point.params), status, epochs, value, reason)
        if self._terminal.is_live:
            table = Table("trial", "trained with", "status", "epochs", self._sweep.metric, "why it stopped")
            for row in self._rows.values():
                table.add_row(*row)
            self._live.update(table)


def _label(point: Point) -> str:
    folder, _, name = point.run.rpartition("/")
    return str(point.number) if folder == TRIALS else name


def _words(params: Mapping[str, Any]) -> str:
    return " ".join(f"{key.rpartition('.')[2]}={value}" for key, value in params.items()) or "as written"
