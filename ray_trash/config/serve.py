"""The settings of the endpoint: how the checkpoint answers, how much it takes on, and when it says it is not sure.

They are written into the checkpoint with the rest of the config; `serve --set` changes them for one endpoint.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ray_trash.config.section import Needs, Section

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@\sA-Z]+")
_ROOT_PATH = re.compile(r"(?!/v1(/|$))(/[\w.~-]+)*/?", re.ASCII)
_REPLICAS_ADDED = Needs("serve.max_replicas", lambda config: config.serve.max_replicas is not None)


class ServeConfig(Section):
    """The HTTP endpoint, and what batch scoring shares with it."""

    engine: Literal["auto", "torch", "openvino"] = "auto"
    """What computes; `auto` is torch on a GPU, OpenVINO on a CPU it knows, torch elsewhere."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; `auto` takes GPUs where the cluster has some."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`auto` is bf16 where the GPU has bf16 or the CPU has bf16 instructions, else fp32. A quantized checkpoint
    answers by int8 under `auto`, and by its float network under the others."""
    views: Literal[1, 8] | None = None
    """How many symmetries of a photo its answer is the mean over; 8 take eight times as long. Temperature and
    thresholds stay those that the checkpoint's own number of views got. Default: that number."""
    explain: bool = False
    """Whether `POST /v1/score?explain=true` is taken: an answer then comes with a map of what speaks for it. A replica
    keeps the weights for it (90 MiB, 160 while it draws over eight views); a photo takes several times as long."""
    target_error: float | None = Field(0.05, gt=0, lt=1)
    """Share of wrong labels among the answers that are given; below the confidence that keeps it, a photo is answered
    with "not sure". Fixed when a checkpoint is written. `null` answers every photo."""
    replicas: int = Field(1, ge=1)
    """Processes that answer; with `serve.max_replicas`, the fewest."""
    max_replicas: int | None = Field(None, ge=1)
    """Ray adds replicas under load, up to this. Default: their number stays."""
    target_requests_per_replica: Annotated[float, _REPLICAS_ADDED] = Field(4.0, gt=0)
    """Ongoing requests per replica above which Ray adds a replica."""
    threads_per_replica: int | None = Field(None, ge=1)
    """CPU threads that compute in a replica. Default: the cluster's cores for one replica, and twice its share for each
    of several, so that the others carry the photos of one that is replaced."""
    forward_batch_photos: int = Field(32, ge=1)
    """Photos in one forward pass, of all requests together."""
    batch_wait_s: float = Field(0.001, ge=0, le=1)
    """How long the first photo of a batch waits for others."""
    max_batch_images: int = Field(64, ge=1)
    """Photos in one request."""
    max_body_mib: float = Field(128.0, gt=0)
    """Largest body of a request."""
    max_waiting_mib: float = Field(512.0, gt=0)
    """Bodies of all requests that are being answered; beyond it a request is turned away before it is read."""
    max_waiting_requests: int = Field(256, ge=1)
    """Requests that are being answered; beyond it they are turned away."""
    max_waiting_photos: int = Field(512, ge=1)
    """Photos of all requests that are being answered; beyond it a request is turned away."""
    retry_after_s: int = Field(1, ge=1)
    """Seconds in the `Retry-After` of a 503."""
    timeout_s: float = Field(30.0, gt=0)
    """Time limit of a request; then 504."""
    header_timeout_s: float = Field(10.0, gt=0)
    """How long a client may take to send a request's headers."""
    body_timeout_s: float = Field(30.0, gt=0)
    """How long a client may send next to nothing of a request's body; the whole of it may take twenty times as long."""
    keep_alive_s: int = Field(75, ge=1)
    """How long a connection may rest between two requests. It must be longer than a load balancer keeps it: 60 s as a
    rule, 600 s on Google Cloud."""
    root_path: str = ""
    """Path below which a proxy offers the endpoint, such as `/trash`; the proxy may strip it. Default: none."""
    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may ask from a browser, such as `https://app.example.org`; `*` is any. Default: none."""
    api_key_file: str | None = None
    """File with the key that clients must send. Default: the environment variable RAY_TRASH_API_KEY."""
    operator_key_file: str | None = None
    """File with the key of whoever may roll back or promote. Default: the environment variable RAY_TRASH_OPERATOR_KEY;
    without one, `ray-trash serve` makes a key that only its user can read, and says where."""
    log_format: Literal["auto", "text", "json"] = "auto"
    """`text` is lines for people, `json` one object a line; `auto` is text in a terminal, JSON elsewhere."""
    drain_s: float = Field(1.0, ge=0, le=600)
    """How long an endpoint that is told to stop goes on answering while `/readyz` says that it stops: as long as load
    balancers may take to look there."""
    watch_interval_s: float = Field(2.0, gt=0)
    """How often `serve --watch` looks for a new checkpoint."""
    allow_new_classes: bool = False
    """Whether a checkpoint with other classes may take the place of the one that answers; clients see other names."""
    shadow_share: float = Field(0.1, gt=0, le=1)
    """Share of the photos that are answered which the model on trial (`serve --shadow`) scores too, where nothing else
    waits."""

    @model_validator(mode="after")
    def _addresses_are_some(self) -> ServeConfig:
        if not _ROOT_PATH.fullmatch(self.root_path):
            raise ValueError("root_path: expected a path such as /trash, of letters, digits and ._~-, not below /v1")
        for origin in self.cors_origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(f"cors_origins: {origin!r} is no origin such as https://app.example.org, nor *")
        return self

    @model_validator(mode="after")
    def _limits_fit_together(self) -> ServeConfig:
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError("max_replicas is below replicas")
        if self.max_waiting_photos < self.max_batch_images:
            raise ValueError("max_waiting_photos is below max_batch_images: a full request would always be turned away")
        if self.max_waiting_mib < self.max_body_mib:
            raise ValueError("max_waiting_mib is below max_body_mib: a full request would always be turned away")
        return self
