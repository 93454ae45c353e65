"""A sweep while it runs: every trial's state, kept in `trials.json`, told in lines or shown as a live table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ray.tune import Callback
from rich.live import Live
from rich.table import Table

from ray_trash.evaluate.metrics import direction_of
from ray_trash.storage import Storage
from ray_trash.terminal.say import Terminal
from ray_trash.train.run_directory import RUN, read_run
from ray_trash.train.schedule import is_better
from ray_trash.tune.schedulers import EPOCH
from ray_trash.tune.search import Point
from ray_trash.tune.trial import history_of
from ray_trash.tune.trials import Status, TrialRecord

_REFRESH_PER_S = 2


def read_trial(run: Storage, point: Point, metric: str, *, stopped_at: int | None, error: str | None) -> TrialRecord:
    """Say how a trial ended, from what its run directory holds.

    Args:
        run: The sweep's directory.
        point: What was trained.
        metric: What trials are compared by.
        stopped_at: The epoch after which the scheduler stopped it, if it did.
        error: What Ray Tune says went wrong, if it does.
    """
    own = run.child(*point.run.split("/"))
    history = history_of(own)
    curve = tuple(float(record[metric]) for record in history)
    best: int | None = None
    for number, value in enumerate(curve):
        if is_better(value, None if best is None else curve[best], direction_of(metric)):
            best = number
    document = read_run(own) if own.exists(RUN) else {}
    status, reason = _ending(document, stopped_at, error, history)
    return TrialRecord(
        trial=point.number,
        params=point.params,
        run=point.run,
        epochs_run=len(history),
        best_epoch=None if best is None else history[best]["epoch"],
        best_value=None if best is None else curve[best],
        metrics={} if best is None else {key: history[best][key] for key in history[best] if key.startswith("val_")},
        seconds=sum(record["seconds"] for record in history),
        status=status,
        stop_reason=reason,
        curve=curve,
    )


def _ending(
    document: Mapping[str, Any], stopped_at: int | None, error: str | None, history: Sequence[Mapping[str, Any]]
) -> tuple[Status, str]:
    if document.get("status") == "done":
        return "done", history[-1]["stop_reason"]
    if stopped_at is not None:
        return "pruned", f"stopped by the scheduler after epoch {stopped_at}"
    if document.get("status") == "failed":
        return "failed", str(document.get("reason"))
    return "failed", error or "its process died"


class Watch(Callback):
    """Follows the trials of one Ray Tune run."""

    def __init__(
        self,
        run: Storage,
        metric: str,
        stopped: Mapping[str, int],
        terminal: Terminal,
        *,
        epochs: int,
        finished: Sequence[TrialRecord],
        keep: Callable[[Sequence[TrialRecord]], None],
    ) -> None:
        """Start with what an earlier start of the sweep has finished.

        Args:
            run: The sweep's directory.
            metric: What trials are compared by.
            stopped: The scheduler's record of whom it stopped, by run directory.
            terminal: Where it is shown.
            epochs: Of a trial that is not stopped.
            finished: Trials that are over already.
            keep: Called with all trials that are over, whenever one more is.
        """
        self._run, self._metric, self._stopped, self._terminal, self._epochs = run, metric, stopped, terminal, epochs
        self._keep = keep
        self.records = {record.run: record for record in finished}
        self._rows: dict[str, tuple[str, ...]] = {}
        self._live = Live(console=terminal.console, refresh_per_second=_REFRESH_PER_S, transient=True)
        for record in finished:
            self._show_end(record, say=False)

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
        point = Point.from_tune(trial.config)
        if point.run not in self.records:
            self._say(f"trial {_label(point)} starts: {_words(point.params)}")
            self._show(point, "running", "0", "", "")

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Show an epoch of a trial."""
        point = Point.from_tune(trial.config)
        if point.run not in self.records and EPOCH in result:
            self._show(point, "running", f"{result[EPOCH]}/{self._epochs}", f"{result[self._metric]:.4f}", "")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record a trial that has ended."""
        self._end(trial, None)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record a trial that Ray Tune has given up."""
        lines = [line for line in str(trial.get_error() or "").splitlines() if line.strip()]
        self._end(trial, lines[-1].strip() if lines else None)

    def _end(self, trial: Any, error: str | None) -> None:
        point = Point.from_tune(trial.config)
        if point.run in self.records:
            return
        record = read_trial(self._run, point, self._metric, stopped_at=self._stopped.get(point.run), error=error)
        self.records[point.run] = record
        self._keep(list(self.records.values()))
        self._show_end(record, say=True)

    def _show_end(self, record: TrialRecord, *, say: bool) -> None:
        point = Point(record.trial, record.run, record.params)
        best = "" if record.best_value is None else f"{record.best_value:.4f}"
        self._show(point, record.status, f"{record.epochs_run}/{self._epochs}", best, record.stop_reason)
        if say:
            what = f"best {self._metric} {best} in epoch {record.best_epoch}, " if best else ""
            self._say(f"trial {_label(point)} {record.status}: {what}{record.stop_reason}, {record.seconds:.0f} s")

    def _say(self, text: str) -> None:
        self._terminal.say(text)

    def _show(self, point: Point, *cells: str) -> None:
        self._rows[point.run] = (_label(point), _words(point.params), *cells)
        if not self._terminal.is_live:
            return
        table = Table("trial", "trained with", "status", "epochs", self._metric, "why it stopped")
        for row in self._rows.values():
            table.add_row(*row)
        self._live.update(table)


def _label(point: Point) -> str:
    folder, _, name = point.run.rpartition("/")
    return f"{point.number}" if folder == "trials" else name


def _words(params: Mapping[str, Any]) -> str:
    return " ".join(f"{key.rpartition('.')[2]}={value}" for key, value in params.items()) or "as written"
