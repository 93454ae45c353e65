"""From what was measured to how long a run takes: arithmetic alone.

What a command does beside its own work, such as starting processes, is counted in loads: the time it took this process
to load torch and Ray, which every process of a run does too, and which says how fast and how busy a machine is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ray_trash.config import Config

RAY_LOADS = 1.5
"""To start Ray on this machine: 0.9 to 2.1 were measured."""
PROCESS_LOADS = 1.3
"""To start a process of Ray that trains, until it takes its first step."""
TRAIN_LOADS = 2.0
"""What Ray Train does before and after its workers, more than a training in the command's own process."""
TRIAL_LOADS = 0.3
"""From one trial to the next one, in the process of the last."""
COMPARE_S = 0.004
"""To compare one photo with the others and to probe it, on one CPU: a guess, beside some 15 ms for reading one."""
READ_LOADS = 1.0
"""To start the processes that read photos."""
EVALUATE_LOADS = 2.5
"""To evaluate: processes that read photos again, then others that answer, which check themselves first."""
MASKED_PASSES = 3
"""Photos are scored as they are, with their border and with their centre hidden."""
UNKNOWN_PHOTOS = 100
"""Drawn pictures of no class, scored beside them."""
FP32_TIMES_BF16 = 2.5
"""How much longer the network takes to answer in float32, on a processor with AVX512-BF16; a guess."""
DISK_BYTES_PER_S = 1e9
"""Of a checkpoint, with its sync; a guess at a solid-state disk."""


@dataclass(frozen=True)
class Part:
    """A part of a run, in words, and its seconds."""

    what: str
    seconds: float


@dataclass(frozen=True)
class EpochTime:
    """Seconds of one epoch: training, validation, and the checkpoint."""

    training_s: float
    validation_s: float
    checkpoint_s: float

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.training_s + self.validation_s + self.checkpoint_s


def reading_s(n_photos: int, look_s: float, *, at_once: int, load_s: float) -> float:
    """Return how long it takes to catalogue, compare and split photos, so many tasks at once."""
    return READ_LOADS * load_s + n_photos * (look_s + COMPARE_S) / max(1, at_once)


def streamed_step_s(step_s: float, photos: float, look_s: float, *, readers: float, on_gpu: bool) -> float:
    """Return how long a step takes whose photos are decoded meanwhile: beside it on a GPU, at its cost on a CPU."""
    reading = photos * look_s / max(readers, 1e-9)
    return max(step_s, reading) if on_gpu else step_s + reading


def epochs_within(config: Config, epochs_s: Iterable[float]) -> int:
    """Return how many epochs there are: all, or as many as `train.time_budget_min` has room for, and one at least."""
    budget_min = config.train.time_budget_min
    all_s = list(epochs_s)
    if budget_min is None:
        return len(all_s)
    spent_s, n = 0.0, 0
    for seconds in all_s:
        spent_s += seconds
        if n and spent_s > 60 * budget_min:
            break
        n += 1
    return n


def fewest_epochs(config: Config, epochs: int) -> int:
    """Return how many epochs are trained at least, where early stopping may end a run before its last."""
    patience = config.train.early_stopping_patience_epochs
    return epochs if patience is None else min(epochs, patience + 1)


def written_s(computed_s: float, n_bytes: int) -> float:
    """Return how long a checkpoint takes that takes so long to compute."""
    return computed_s + n_bytes / DISK_BYTES_PER_S


def evaluation_s(n_squares: int, validate_s: float, computes: str) -> float:
    """Return how long so many squares take in float32, where validation takes so long for one in what it computes."""
    return n_squares * validate_s * (FP32_TIMES_BF16 if computes.startswith("bfloat16") else 1.0)
