"""When a run is saved, and by whom: beside training, at steps that all workers agree on.

The first worker copies what is to be saved, and a thread of it writes the copy while the workers go on. An epoch
counts once it is written: only then is it announced. A write that fails ends the run on every worker, at the next
agreement.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ray_trash.storage import Storage
from ray_trash.train.job import TrainJob
from ray_trash.train.progress import EpochProgress
from ray_trash.train.run_directory import (
    prune,
    publish,
    publish_within,
    repair_best,
    require_attempt,
    within_name,
    write_metrics,
)
from ray_trash.train.schedule import frozen_stages_at
from ray_trash.train.state import TrainState, save_state, save_within
from ray_trash.train.statistics import mean_statistics, write_statistics
from ray_trash.train.steps import plan_epoch
from ray_trash.train.worker import Worker

AGREE_EVERY_S = 1.0
"""How often workers agree on whether to save: a message of some bytes, and how late a warning is heeded."""
LAST_WRITE_S = 10.0
"""How long a process that is told to end waits for what it is writing."""


class Writer:
    """Does one thing at a time in a thread; what goes wrong is raised by `finish`."""

    def __init__(self) -> None:
        """Start idle."""
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    @property
    def is_busy(self) -> bool:
        """Whether something is being written at this moment."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, write: Callable[[], None]) -> None:
        """Begin to write; what was begun before must be finished."""
        assert self._thread is None

        def run() -> None:
            try:
                write()
            except BaseException as error:
                self._error = error

        # No end of this process waits for a storage that does not answer.
        self._thread = threading.Thread(target=run, name="checkpoint", daemon=True)
        self._thread.start()

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait until all is written, at most for so long."""
        if self._thread is not None:
            self._thread.join(timeout_s)

    def finish(self) -> None:
        """Wait until all is written, and raise what went wrong."""
        self.wait()
        self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error


@dataclass(frozen=True)
class Turn:
    """What all workers do after a step, as the first of them says: settle, save, stop; the next turn in `steps`."""

    settle: bool
    save: bool
    stop: bool
    steps: int


class Saver:
    """Saves a run of this worker and all others; every method is called by all of them together."""

    def __init__(self, job: TrainJob, run: Storage, state: TrainState, worker: Worker) -> None:
        """Save into the run's directory."""
        self._job, self._run, self._state, self._worker = job, run, state, worker
        self._writer = Writer()
        self._announce: Callable[[], None] | None = None
        self._saved_at = self._agreed_at = time.monotonic()
        self._steps = self._agreed_step = self._turn_at = 0

    def go_on(self, progress: EpochProgress, steps_left: int, settle: Callable[[], None]) -> bool:
        """Do after a step what is due; False where the run is to stop here, saved, with nothing trained that is not.

        `settle` brings the sums of the progress up to date before they are saved, and may raise `DivergedError`.
        """
        self._steps += 1
        if self._steps < self._turn_at:
            return True
        turn = self._worker.from_first(self._turn(steps_left))
        self._turn_at = self._steps + turn.steps
        if turn.settle:
            self.settle()
        if turn.save:
            settle()
            self._save_within(progress)
        if turn.stop:
            self.settle()
        return not turn.stop

    def _turn(self, steps_left: int) -> Turn:
        if not self._worker.is_first:
            return Turn(False, False, False, 1)  # the first worker's counts
        now = time.monotonic()
        step_s = max(1e-6, now - self._agreed_at) / (self._steps - self._agreed_step)
        self._agreed_at, self._agreed_step = now, self._steps
        stop = bool(self._job.board.asked_to_stop())
        due = now - self._saved_at >= 60 * self._job.config.train.checkpoint_every_min
        return Turn(
            settle=self._announce is not None and not self._writer.is_busy,
            save=stop or (due and not self._writer.is_busy),
            stop=stop,
            steps=max(1, min(steps_left, int(AGREE_EVERY_S / step_s))),
        )

    def save_epoch(self, announce: Callable[[], None]) -> bool:
        """Save the epoch that the state has just ended; `announce` is called once it counts. As `go_on` returns."""
        self.settle()
        if self._worker.is_first:
            saved = self._state.copied()
            self._writer.start(lambda: self._write_epoch(saved))
        self._announce, self._saved_at = announce, time.monotonic()
        stop = self._worker.from_first(self._worker.is_first and self._job.board.asked_to_stop())
        if stop or self._state.run.stop_kind is not None:
            self.settle()
        return not stop

    def settle(self) -> None:
        """Wait for what is being written, and announce the epoch that counts by now."""
        announce, self._announce = self._announce, None
        self._worker.on_first(self._writer.finish)
        if announce is not None:
            announce()

    def abandon(self) -> None:
        """Let what is being written come to its end, without the others: this worker ends with another error."""
        self._writer.wait(LAST_WRITE_S)

    def _write_epoch(self, saved: TrainState) -> None:
        # The checkpoint comes first: everything after it can be made again from it.
        job, run = self._job, self._run
        require_attempt(run, job.attempt)
        publish(run, saved.history[-1].checkpoint, lambda folder: save_state(saved, job, folder))
        follow_checkpoint(run, saved)
        keep = job.config.train.keep_checkpoints
        prune(run, keep=None if keep == "all" else keep, best=saved.best_checkpoint)

    def _save_within(self, progress: EpochProgress) -> None:
        self.settle()
        job, state, worker = self._job, self._state, self._worker
        epoch = state.run.epochs_done
        train = job.config.train
        frozen = frozen_stages_at(
            epoch, frozen_stages=job.config.model.frozen_stages, unfreeze_every_epochs=train.unfreeze_every_epochs
        )
        sums = worker.add_up(np.array([progress.loss_sum, progress.correct, progress.seen], dtype=np.float64))
        networks = [network for network in (state.network, state.ema) if network is not None]
        means = [mean_statistics(network, worker, frozen_stages=frozen) for network in networks]
        self._saved_at = time.monotonic()
        if not worker.is_first:
            return
        loss_sum, correct, seen = (float(value) for value in sums)
        within = replace(progress, loss_sum=loss_sum, correct=correct, seen=seen)
        saved = replace(state.copied(), within=within)
        for network, statistics in zip((saved.network, saved.ema), means, strict=False):
            assert network is not None
            write_statistics(network, statistics)
        plan = plan_epoch(job, worker.world, epoch).name

        def write() -> None:
            require_attempt(self._run, job.attempt)
            name = within_name(epoch + 1, within.step)
            publish_within(self._run, name, lambda folder: save_within(saved, job, plan, folder))

        self._writer.start(write)


def follow_checkpoint(run: Storage, state: TrainState) -> None:
    """Make what is made from a checkpoint: the best one's copy, and `metrics.jsonl`."""
    repair_best(run, state.best_checkpoint)
    write_metrics(run, [record.to_json() for record in state.history])
