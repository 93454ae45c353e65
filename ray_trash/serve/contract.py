"""What passes between the gateway and whoever computes, and the body of every HTTP answer. Knows neither HTTP nor Ray.

Letters in shapes: N photos of a request, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from ray_trash.errors import RayTrashError


class ModelName(BaseModel):
    """Who answered."""

    id: str
    """The checkpoint's id."""
    classes: tuple[str, ...]
    """Names in label order."""


class ModelCard(ModelName, frozen=True):
    """The model that answers."""

    engine: str
    """What computes, such as `openvino float32 on cpu`."""
    preprocessing: dict[str, Any]
    """From a photo to the network's input."""
    thresholds: dict[str, float]
    """Class to the confidence below which an answer is "not sure"."""
    temperature: float
    """What the logarithms of probabilities are divided by."""
    target_error: float | None
    """Share of wrong answers that the thresholds keep; None where every photo is answered."""
    answer_shares: dict[str, float]
    """Class to its share of the answers that validation photos got; what is left to 1 is "not sure". Empty where the
    checkpoint does not say."""
    metrics: dict[str, Any]
    """As measured when the checkpoint was written."""


class Limits(BaseModel):
    """What one request may hold."""

    max_batch_images: int
    max_body_mib: float
    timeout_s: float


class ModelBody(ModelCard, frozen=True):
    """The model that answers, and what it may be asked."""

    limits: Limits
    swap: dict[str, Any]
    """What became of the newest attempt to change the model; empty where there was none."""


class ErrorBody(BaseModel):
    """Why there is no answer."""

    code: str
    """The reason in a word; of a photo, one of the reason codes of the audit."""
    message: str
    """The reason in a sentence."""


class Answered(BaseModel):
    """One photo's answer."""

    name: str
    status: Literal["ok"]
    label: str
    confidence: float
    abstained: bool
    """Whether the answer is less sure than the model's threshold for this class."""
    probabilities: dict[str, float]


class Refused(BaseModel):
    """One photo that cannot be used."""

    name: str
    status: Literal["error"]
    error: ErrorBody


class ScoreBody(BaseModel):
    """The answers, in the order of the photos."""

    model: ModelName
    results: list[Answered | Refused]


class UnusableBody(ScoreBody):
    """A single raw photo that cannot be used."""

    error: ErrorBody


class ProblemBody(BaseModel):
    """A request that was not answered."""

    error: ErrorBody
    request_id: str
    """That of the header `X-Request-ID`, and of the endpoint's log."""


class AliveBody(BaseModel):
    """Alive, or ready."""

    status: Literal["ok"]


@dataclass(frozen=True)
class ForwardBatch:
    """A forward pass that a request took part in."""

    n_photos: int
    seconds: float


@dataclass(frozen=True)
class Scored:
    """The answers to the photos of one request, in order; one model answered them all."""

    model: ModelCard
    probabilities: NDArray[np.float32]
    """(N, C); rows of photos that cannot be used are zero."""
    abstained: NDArray[np.bool_]
    """(N,), whether the answer is not sure."""
    refused: Mapping[int, tuple[str, str]]
    """Position to (reason code, message) of photos that cannot be used."""
    batches: Sequence[ForwardBatch] = ()
    decode_s: float = 0.0
    """How long it took until all its photos were decoded."""


class Backend(Protocol):
    """Whoever computes; raises `ServeError` where it cannot."""

    async def score(self, photos: Sequence[bytes], *, timeout_s: float) -> Scored:
        """Answer encoded photos."""

    async def card(self) -> ModelCard | None:
        """Return the model that answers, None before there is one."""

    async def description(self) -> str | None:
        """Return the text of the model's card, Markdown, None before there is a model."""

    async def swap_state(self) -> Mapping[str, Any]:
        """Say what became of the newest attempt to change the model, as JSON; empty where there was none."""

    async def roll_back(self) -> ModelCard:
        """Go back to the model before this one."""

    def exchanges(self) -> Mapping[str, int]:
        """Count attempts to change the model by what became of them: `done`, `refused`, `rolled_back`."""


class ServeError(RayTrashError):
    """A request that is not answered: an HTTP status, the reason in a word and a sentence, and when to come again."""

    def __init__(self, status: int, code: str, message: str, *, retry_after_s: int | None = None) -> None:
        """Say why; without `retry_after_s`, coming again changes nothing."""
        super().__init__(message)
        self.status, self.code, self.retry_after_s = status, code, retry_after_s

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to other processes whole."""
        return _make_error, (self.status, self.code, str(self), self.retry_after_s)


def _make_error(status: int, code: str, message: str, retry_after_s: int | None) -> ServeError:
    return ServeError(status, code, message, retry_after_s=retry_after_s)


def come_again(code: str, reason: str, retry_after_s: int) -> ServeError:
    """Make the error of a request that may be answered later."""
    return ServeError(503, code, f"{reason}; come again", retry_after_s=retry_after_s)


def not_ready(retry_after_s: int, swap: Mapping[str, Any] | None = None) -> ServeError:
    """Say that there is no model yet, and what became of the attempt to have one, as `swap_state` says it."""
    detail = (swap or {}).get("detail")
    if detail is None:
        return come_again("not_ready", "the model is being loaded", retry_after_s)
    if swap and swap["status"] == "refused":
        return come_again("model_refused", f"there is no model: {detail}", retry_after_s)
    return come_again("not_ready", f"there is no model yet: {detail}", retry_after_s)
