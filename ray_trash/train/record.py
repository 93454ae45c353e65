"""What a run says of an epoch: a line of `metrics.jsonl`, a point of every curve, a line on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ray_trash.evaluate.metrics import VALIDATION_FIGURES

_RATES = ("learning_rate", "head_learning_rate", "images_per_s")


@dataclass(frozen=True)
class EpochRecord:
    """One epoch, from 1: `metrics` are `train_...` and `val_...`, `images_per_s` is of training, over all workers.

    The learning rates are those of the epoch's first step: of the last stage, or the head's where every stage stays
    frozen, and of the head. `stop_reason` says why the run is over, and is empty while it is not.
    """

    epoch: int
    metrics: Mapping[str, float]
    learning_rate: float
    head_learning_rate: float
    frozen_stages: int
    steps: int
    images_per_s: float
    seconds: float
    is_best: bool
    stop_reason: str
    checkpoint: str

    @property
    def curves(self) -> dict[str, float]:
        """What is worth drawing over the epochs, by name."""
        drawn = ("train_loss", "train_accuracy", *VALIDATION_FIGURES)
        return {**{name: self.metrics[name] for name in drawn}, **{name: getattr(self, name) for name in _RATES}}

    @property
    def judged(self) -> dict[str, float]:
        """What an epoch is judged by, for people and checkpoints."""
        return {name: self.metrics[name] for name in ("train_loss", *VALIDATION_FIGURES)}

    def line(self) -> str:
        """Say it in one line."""
        metrics = "  ".join(f"{name} {value:.4f}" for name, value in self.judged.items())
        best = "  best" if self.is_best else ""
        return f"epoch {self.epoch:>3}  {metrics}  {self.images_per_s:.1f} photos/s  {self.seconds:.1f} s{best}"

    def to_json(self) -> dict[str, Any]:
        """Return the keys of a line of `metrics.jsonl`, in their order."""
        values = asdict(self)
        return {"epoch": values.pop("epoch"), **values.pop("metrics"), **values}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> EpochRecord:
        """Read what `to_json` gave."""
        metrics = {name: value for name, value in values.items() if name not in cls.__dataclass_fields__}
        return cls(metrics=metrics, **{name: value for name, value in values.items() if name not in metrics})
