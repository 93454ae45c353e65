"""Whether a model has all its replicas: told when some have gone, and when there are enough again."""

from __future__ import annotations

import logging
import time
from typing import Any

from ray_trash.serve.log import tell
from ray_trash.terminal.text import counted


class Strength:
    """How many replicas were seen to run, of as many as are wanted at least."""

    def __init__(self, wanted: int) -> None:
        """Suppose that all are there."""
        self._wanted, self._running = wanted, wanted
        self._weak_since_s = 0.0

    def note(self, model: str, running: int) -> None:
        """Take what was seen of the model that answers, and log what has changed: one that dies leaves no line itself.

        More than are wanted come and go with the load, and nothing is said of them.
        """
        before, self._running = self._running, min(running, self._wanted)
        if self._running == before:
            return
        fields: dict[str, Any] = {"model": model, "running": running, "replicas": self._wanted}
        of_all = f"{running} of {counted(self._wanted, 'replica')} of {model}"
        if self._running == self._wanted:
            took_s = time.monotonic() - self._weak_since_s
            tell("replicas_back", f"{of_all} answer again, after {took_s:.0f} s", seconds=round(took_s, 1), **fields)
        elif self._running < before:
            if before == self._wanted:
                self._weak_since_s = time.monotonic()
            what = f"a replica has died or hangs, {of_all} are left; another is being started"
            tell("replica_gone", what, level=logging.WARNING, **fields)
