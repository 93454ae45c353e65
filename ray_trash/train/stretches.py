"""What the workers of a run do from one start to the next: a stretch.

Their number may change from stretch to stretch, as machines come and go. Each is a record in `run.json`, with the
steps that are trained a second time because they were not saved.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from ray_trash.errors import StorageError
from ray_trash.storage import Storage
from ray_trash.terminal.text import counted
from ray_trash.train.board import Begun, Event, Step
from ray_trash.train.record import EpochRecord
from ray_trash.train.run_directory import read_run, update_run

STRETCHES, REACHED = "stretches", "reached"
"""Keys of `run.json`: the records, and the newest step that is known of, epoch from 1."""
WRITE_EVERY_S = 10.0
"""How often the newest step is written down: so much less may be counted as repeated after the driver's own end."""


@dataclass
class Stretch:
    """One start of the workers.

    Attributes:
        started_at: UTC, ISO 8601.
        workers: How many.
        why: They were started, in words.
        epoch: From 1, that they begin in, after `step` of its steps.
        steps_repeated: Steps that had been trained already, and were lost.
        images_per_s: Photos a second over all workers, the newest that is known.
    """

    started_at: str
    workers: int
    why: str
    epoch: int
    step: int
    steps_repeated: int
    images_per_s: float | None = None


class Stretches:
    """Follows the events of a run, and writes what they say of its stretches."""

    def __init__(self, run: Storage, say: Callable[[str], None]) -> None:
        """Go on with the records of earlier starts of the run."""
        document = read_run(run)
        self._run, self._say = run, say
        self._records: list[dict[str, Any]] = document.get(STRETCHES, [])
        self._reached: tuple[int, int] = tuple(document.get(REACHED, (1, 0)))
        self._now: Stretch | None = None
        self._written_at = -math.inf
        self.why = "the run was started" if not self._records else "the run was started again"
        self.n_steps = 0

    def listen(self, event: Event) -> None:
        """Take in an event; that it cannot be written down is for those to say who write what matters more."""
        with suppress(StorageError):
            if isinstance(event, Begun):
                self._begin(event)
            elif isinstance(event, Step):
                self._reached = max(self._reached, (event.epoch, event.step))
                self.n_steps += 1
                if self._now is not None:
                    self._now.images_per_s = round(event.images_per_s, 1)
                if time.monotonic() - self._written_at > WRITE_EVERY_S:
                    self._write()
            elif isinstance(event, EpochRecord):
                self._reached = max(self._reached, (event.epoch + 1, 0))

    def close(self) -> None:
        """Write down how far the run has come."""
        with suppress(StorageError):
            self._write()

    def _begin(self, begun: Begun) -> None:
        self._keep()
        before = self._records[-1]["workers"] if self._records else None
        epoch, step = self._reached
        repeated = max(0, (epoch - begun.epoch) * begun.steps + step - begun.step)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._now = Stretch(now, begun.workers, self.why, begun.epoch, begun.step, repeated)
        self._reached = (begun.epoch, begun.step)
        if before is not None:
            change = counted(begun.workers, "worker") + (f" instead of {before}" if before != begun.workers else "")
            again = f"{counted(repeated, 'step')} trained again" if repeated else "no step is trained again"
            self._say(f"{change}: {self.why}; from step {begun.step + 1} of epoch {begun.epoch}, {again}")
        self._write()

    def _keep(self) -> None:
        if self._now is not None:
            self._records.append(asdict(self._now))
            self._now = None

    def _write(self) -> None:
        self._written_at = time.monotonic()
        records = [*self._records, *([asdict(self._now)] if self._now is not None else [])]
        repeated = sum(record["steps_repeated"] for record in records)
        update_run(self._run, {STRETCHES: records, "steps_repeated": repeated, REACHED: list(self._reached)})
