"""What the steps of an epoch add up to, kept on the device, so that no step waits for the one before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ray_trash.errors import DivergedError
from ray_trash.model.transfer import to_device, to_host
from ray_trash.train.progress import EpochProgress, LearningRates

LOOK_EVERY_STEPS = 8
"""Steps after which a GPU's figures are asked for, to be read as many steps later: it always has some to do, and never
more than twice as many, after which a gradient that is not finite ends the run at the latest."""
_NONE = -1.0


def diverged_error(what: str, epoch: int, rates: LearningRates, *, step: int | None = None) -> DivergedError:
    """Say where it diverged, and what to do; `epoch` is from 0."""
    return DivergedError(
        f"training diverged in epoch {epoch + 1}{'' if step is None else f', step {step}'}: {what} at learning rate "
        f"{rates.body:g}; lower train.learning_rate, add warm-up or set train.clip_gradient_norm"
    )


class Tally:
    """Loss and right answers of the steps of an epoch on this worker, and the first gradient that is not finite.

    On a CPU figures are looked at in every step. On a GPU they are on their way while it goes on: from the step on
    whose gradient is not finite `diverged` keeps the optimizer from stepping, and `DivergedError` comes with one of the
    next looks, at the same step on all workers, as they have the same gradients.
    """

    def __init__(
        self, progress: EpochProgress, epoch: int, device: torch.device, *, look_every_steps: int | None = None
    ) -> None:
        """Go on from what an epoch, from 0, adds up to so far.

        With 1 every step is looked at before the optimizer's, whatever the device. Default: 1 on a CPU,
        `LOOK_EVERY_STEPS` on a GPU.
        """
        self.last_loss = float("nan")
        """Mean loss of the newest step that was looked at; NaN before there is one."""
        self.diverged = torch.zeros((), device=device)
        """1 once a gradient was not finite, else 0: float32, as optimizers take their `found_inf`."""
        self._progress, self._epoch = progress, epoch
        self._every = look_every_steps or (LOOK_EVERY_STEPS if device.type == "cuda" else 1)
        # Loss and right answers so far; step from 0, norm and mean loss over all workers' photos of what diverged.
        self._sums = to_device(np.array([progress.loss_sum, progress.correct]), device)
        self._found = torch.full((3,), _NONE, dtype=torch.float64, device=device)
        self._last = torch.zeros((1,), dtype=torch.float64, device=device)
        self._rates: dict[int, LearningRates] = {}
        self._on_its_way: Callable[[], NDArray[Any]] | None = None

    @property
    def is_immediate(self) -> bool:
        """Whether every step is looked at before the optimizer's."""
        return self._every == 1

    def add(
        self, step: int, loss: Tensor, correct: Tensor, norm: Tensor, rates: LearningRates, *, own: int, photos: int
    ) -> None:
        """Add a step, from 0: its summed loss, right answers, and the norm of its gradient, all scalars.

        `own` of the step's `photos` are this worker's. Where the gradient is not finite, `DivergedError` comes now or
        later.
        """
        loss, norm = loss.double(), norm.double()
        self._sums += torch.stack([loss, correct.double()])
        self._last = (loss / max(1, own)).reshape(1)
        found = torch.stack([torch.full_like(loss, step), norm, loss / photos])
        is_first = ~torch.isfinite(norm) & (self.diverged == 0)
        self._found = torch.where(is_first, found, self._found)
        self.diverged += is_first
        self._rates[step] = rates
        if self.is_immediate:
            self.settle()
        elif (step + 1) % self._every == 0:
            if self._on_its_way is not None:
                self._take(self._on_its_way())
            self._on_its_way = self._figures()

    def settle(self) -> None:
        """Wait for the device, and bring the progress to the newest step; `DivergedError` if a step has diverged."""
        self._on_its_way = None
        self._take(self._figures()())

    def _figures(self) -> Callable[[], NDArray[Any]]:
        return to_host(torch.cat([self._sums, self._last, self._found]))

    def _take(self, figures: NDArray[Any]) -> None:
        loss_sum, correct, self.last_loss, step, norm, mean_loss = figures.tolist()
        if step != _NONE:
            what = f"the gradient is {norm:g} (loss {mean_loss:g})"
            raise diverged_error(what, self._epoch, self._rates[int(step)], step=int(step) + 1)
        self._progress.loss_sum, self._progress.correct = loss_sum, correct
