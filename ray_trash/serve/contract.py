"""What passes between the gateway and whoever computes, and the body of every HTTP answer. Knows neither HTTP nor Ray.

Letters in shapes: N photos of a request, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
    views: int = 1
    """How many symmetries of a photo its answer is the mean over."""
    calibrated_views: int = 1
    """To how many views temperature and thresholds were fitted; with another number they are less true."""
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


class TrialFigures(BaseModel):
    """What a model on trial made of photos that were answered, beside the model that answered them.

    Of the gateway that says so, since these two models met there.
    """

    photos: int = 0
    """Scored by both."""
    agreed: int = 0
    """Of those, given the same label, sure or not."""
    differences: dict[str, dict[str, int]] = {}
    """Label of the model that answered to label of the one on trial to photos, where they differ."""
    abstained: int = 0
    """Photos that the model on trial was not sure of."""
    model_abstained: int = 0
    """Photos that the model that answered was not sure of."""
    mean_confidence: float = 0.0
    model_mean_confidence: float = 0.0
    mean_forward_s: float = 0.0
    """Seconds a photo in forward passes of the model on trial: on one thread, which gives way to others."""
    dropped: int = 0
    """Photos that were not scored, since others waited or the batch before was under way."""
    failed: int = 0
    """Photos that the model on trial was asked for and did not score."""


class ShadowBody(BaseModel):
    """A second model, on trial: it scores photos that were answered, and its answers are only counted."""

    id: str | None
    """Its checkpoint's id; None where none is on trial now."""
    engine: str | None
    swap: dict[str, Any]
    """What became of the newest attempt to try one: `on_trial`, `refused`, `promoted` or `ended`, and why."""
    share: float
    """Of the photos that are answered."""
    figures: TrialFigures


class ModelBody(ModelCard, frozen=True):
    """The model that answers, and what it may be asked."""

    limits: Limits
    explain: bool
    """Whether `POST /v1/score?explain=true` is taken."""
    swap: dict[str, Any]
    """What became of the newest attempt to change the model; empty where there was none."""
    shadow: ShadowBody | None
    """None where no model was ever on trial."""


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


class Explained(Answered):
    """One photo's answer, and what it looked at."""

    map_png: str
    """A PNG file in base64: the photo as the network sees it, warm where it speaks for the label."""


class Refused(BaseModel):
    """One photo that cannot be used."""

    name: str
    status: Literal["error"]
    error: ErrorBody


class ScoreBody(BaseModel):
    """The answers, in the order of the photos."""

    model: ModelName
    results: list[Answered | Explained | Refused]


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
    maps: Mapping[int, bytes] = field(default_factory=dict)
    """Position to a PNG file of what the answer looked at, where that was asked for."""
    explain_s: float = 0.0
    """How long the maps took."""


@dataclass(frozen=True)
class ShadowState:
    """The model on trial, None where there is none, and what became of the newest attempt to try one."""

    card: ModelCard | None = None
    swap: Mapping[str, Any] = field(default_factory=dict)


class Backend(Protocol):
    """Whoever computes; raises `ServeError` where it cannot."""

    async def score(self, photos: Sequence[bytes], *, timeout_s: float, explain: bool = False) -> Scored:
        """Answer encoded photos, and draw what the answers looked at where that is asked for."""

    async def card(self) -> ModelCard | None:
        """Return the model that answers, None before there is one."""

    async def description(self) -> str | None:
        """Return the text of the model's card, Markdown, None before there is a model."""

    async def swap_state(self) -> Mapping[str, Any]:
        """Say what became of the newest attempt to change the model, as JSON; empty where there was none."""

    async def roll_back(self) -> ModelCard:
        """Go back to the model before this one."""

    async def shadow(self) -> ShadowState:
        """Say which model is on trial."""

    async def score_shadow(self, photos: Sequence[bytes], *, timeout_s: float) -> Scored:
        """Have the model on trial score encoded photos; what it says is for nobody but the counters."""

    async def promote(self) -> ModelCard:
        """Let the model on trial answer from now on."""

    def exchanges(self) -> Mapping[str, int]:
        """Count attempts to change the model by what became of them, one of `OUTCOMES`."""


OUTCOMES = ("done", "refused", "rolled_back", "promoted", "shadow_refused")


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
