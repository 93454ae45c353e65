"""How far an epoch has come: what a checkpoint within it holds besides the run's state, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple


class LearningRates(NamedTuple):
    """Of the last stage, and of the head; both the head's where every stage stays frozen."""

    body: float
    head: float


@dataclass
class EpochProgress:
    """What the steps of an epoch add up to so far.

    Attributes:
        step: Steps that are taken, over all starts of the run.
        loss_sum: Of all photos, on this worker; in a checkpoint, on all of them. Likewise `correct` and `seen`.
        first_rates: Learning rates of the first step; None before it.
        training_s: Seconds in steps.
        epoch_s: Seconds since the epoch began, only kept up to date in a checkpoint.
        with_writing_s: Seconds since the epoch before ended, likewise.
    """

    step: int = 0
    loss_sum: float = 0.0
    correct: float = 0.0
    seen: float = 0.0
    first_rates: LearningRates | None = None
    training_s: float = 0.0
    epoch_s: float = 0.0
    with_writing_s: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {**asdict(self), "first_rates": list(self.first_rates or ())}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> EpochProgress:
        """Read what `to_json` gave."""
        return cls(**{**values, "first_rates": LearningRates(*values["first_rates"])})
