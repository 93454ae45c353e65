"""A learning rate found by a short range test: steps of training on a copy, at rates from far too small to too large.

Source: Smith, "Cyclical Learning Rates for Training Neural Networks", 2017; smoothing, end and choice are
fastai's.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from torch.optim import Optimizer

from ray_trash.errors import DivergedError
from ray_trash.model.network import freeze_stages, set_training_mode
from ray_trash.storage import Storage
from ray_trash.terminal.text import counted
from ray_trash.train.epoch import train_epoch
from ray_trash.train.frozen.inputs import NetworkInputs
from ray_trash.train.job import TrainJob
from ray_trash.train.progress import EpochProgress
from ray_trash.train.schedule import frozen_stages_at
from ray_trash.train.state import TrainState
from ray_trash.train.worker import Worker

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RANGE_TEST, RANGE_PICTURE = "learning_rate.json", "learning_rate.png"
FIRST_RATE, LAST_RATE = 1e-7, 1.0
RANGE_STEPS = 71
"""Ten for each of seven orders of magnitude, and one."""
_SMOOTHING = 0.9
"""Share of a step's smoothed loss that is of the steps before it."""
_DIVERGED_TIMES = 4.0
"""Times the lowest loss so far above which rates are too large, and the test ends."""
_BELOW_LOWEST = 10.0
"""The rate at which the loss is lowest is about to be too large."""
_LEAST_FALL = 0.02
"""Share of its first value that the loss has to fall by to say anything."""
_WITHOUT_A_FALL = 1e-4
"""The default of `train.learning_rate`."""
_DIGITS = 2


@dataclass(frozen=True)
class RangeTest:
    """Learning rates of the last stage with the smoothed loss at each, the one that is taken, and why, in words."""

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    learning_rate: float
    why: str

    def to_json(self) -> bytes:
        """Return the content of `learning_rate.json`."""
        return (json.dumps(asdict(self), indent=2) + "\n").encode()


def read_range_test(run: Storage) -> RangeTest | None:
    """Read what the range test of a run found; None where there was none."""
    if not run.exists(RANGE_TEST):
        return None
    values = json.loads(run.read_bytes(RANGE_TEST))
    return RangeTest(**{**values, "rates": tuple(values["rates"]), "losses": tuple(values["losses"])})


def range_rate(step: int) -> float:
    """Return the learning rate of a step of the test, from 0."""
    return float(FIRST_RATE * (LAST_RATE / FIRST_RATE) ** (step / (RANGE_STEPS - 1)))


def smoothed(losses: Sequence[float]) -> list[float]:
    """Return the moving average after each loss, without the pull towards zero that it begins with."""
    average, after = 0.0, []
    for number, loss in enumerate(losses, start=1):
        average = _SMOOTHING * average + (1 - _SMOOTHING) * loss
        after.append(average / (1 - _SMOOTHING**number))
    return after


def choose_rate(rates: Sequence[float], losses: Sequence[float]) -> tuple[float, str]:
    """Choose a rate by the smoothed loss at each, and say why."""
    lowest = int(np.argmin(losses)) if losses else 0
    if not losses or losses[0] - losses[lowest] < _LEAST_FALL * abs(losses[0]):
        return _WITHOUT_A_FALL, "no rate lowered the loss by 2 %: the default is taken"
    rate = float(f"{rates[lowest] / _BELOW_LOWEST:.{_DIGITS}g}")
    fall = f"from {losses[0]:.3g} to {losses[lowest]:.3g}"
    return rate, f"a tenth of {rates[lowest]:.2g}, at which the loss is lowest, down {fall}"


def find_learning_rate(state: TrainState, job: TrainJob, worker: Worker, inputs: NetworkInputs) -> RangeTest:
    """Train a copy of a state that has not begun for some steps, with the photos of its first epochs.

    All workers call this together, with the optimizer's rates as shares of the one that is looked for; the state stays
    as it is.
    """
    frozen = frozen_stages_at(
        0,
        frozen_stages=job.config.model.frozen_stages,
        unfreeze_every_epochs=job.config.train.unfreeze_every_epochs,
    )
    trial = replace(state, ema=None).copied()
    freeze_stages(trial.network, frozen)
    set_training_mode(trial.network, frozen)
    losses: list[float] = []
    own = 0.0

    def on_step(step: int, steps: int, loss: float, images_per_s: float) -> None:
        nonlocal own
        own = loss

    def go_on(steps_left: int, settle: Callable[[], None]) -> bool:
        losses.append(float(worker.add_up(np.array([own]))[0]) / worker.world)
        now = smoothed(losses)
        return len(losses) < RANGE_STEPS and now[-1] <= _DIVERGED_TIMES * min(now)

    try:
        # Each loss says whether there is another step.
        while figures := train_epoch(
            trial,
            job,
            worker,
            inputs,
            EpochProgress(),
            on_step=on_step,
            go_on=go_on,
            rate_at=range_rate,
            look_every_steps=1,
        ):
            done = trial.run
            trial.run = replace(done, epochs_done=done.epochs_done + 1, steps_done=done.steps_done + figures.steps)
    except DivergedError:
        pass  # the rate that does this is where the test has its end
    now = [loss for loss in smoothed(losses) if math.isfinite(loss)]
    rates = tuple(range_rate(step) for step in range(len(now)))
    return RangeTest(rates, tuple(now), *choose_rate(rates, now))


def take_rate(optimizer: Optimizer, rate: float) -> None:
    """Give every group its share of a learning rate, in place of the share alone."""
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"] = group["initial_lr"] * rate


def leave_range_test(run: Storage, found: RangeTest) -> None:
    """Write what was found, as numbers and as a picture."""
    picture = io.BytesIO()
    range_chart(found).savefig(picture, format="png", dpi=110, bbox_inches="tight")
    run.write_bytes(RANGE_PICTURE, picture.getvalue())
    run.write_bytes(RANGE_TEST, found.to_json())


def range_line(found: RangeTest) -> str:
    """Say what was found in a line."""
    return f"learning rate {found.learning_rate:g}, by {counted(len(found.rates), 'step')} of a range test: {found.why}"


def range_chart(found: RangeTest) -> Figure:
    """Draw the loss over the learning rate, and the one that is taken."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullFormatter

    figure = Figure(figsize=(4.6, 3.0))
    axes = figure.add_subplot(xlabel="learning rate of the last stage", ylabel="loss, smoothed")
    axes.set_xscale("log")
    # What matplotlib writes there by itself is a formula, which stays text.
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.plot(found.rates, found.losses, color="#4c78a8")
    taken = f"taken: {found.learning_rate:g}"
    axes.axvline(found.learning_rate, color="#e8590c", linewidth=1.2, linestyle="--", label=taken)
    axes.legend(frameon=False)
    return figure
