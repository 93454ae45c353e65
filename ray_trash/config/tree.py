"""The tree of settings: what there is, its range, what it means, and which keys need others to have an effect."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, Field, StringConstraints, model_validator
from pydantic.fields import FieldInfo

from ray_trash.config.data import DataConfig
from ray_trash.config.section import Needs, Section
from ray_trash.config.serve import ServeConfig
from ray_trash.config.tune import TuneConfig

_CROPPED = Needs("augment.preset=dihedral or strong", lambda config: config.augment.preset in ("dihedral", "strong"))
_RECOLOURED = Needs("augment.preset=strong", lambda config: config.augment.preset == "strong")
_AUGMENTED = Needs("augment.preset other than none", lambda config: config.augment.preset != "none")
_SGD = Needs("train.optimizer=sgd", lambda config: config.train.optimizer == "sgd")
_STAGES_TRAINED = Needs("model.frozen_stages below 4", lambda config: config.model.frozen_stages < 4)
_COSINE = Needs("train.schedule=cosine", lambda config: config.train.schedule == "cosine")
_PLATEAU = Needs("train.schedule=plateau", lambda config: config.train.schedule == "plateau")
_MONITORED = Needs(
    "train.schedule=plateau or train.early_stopping_patience_epochs",
    lambda config: config.train.schedule == "plateau" or config.train.early_stopping_patience_epochs is not None,
)
_ACTIVATIONS_KEPT = Needs("train.cache_frozen=auto or on", lambda config: config.train.cache_frozen != "off")
_WORKER_PROCESSES = Needs("train.workers other than 0", lambda config: config.train.workers != 0)

_Workers = Annotated[int, Field(ge=1)]
RunName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]


class ImageConfig(Section):
    """From a photo to the network's input, the same in training, evaluation, scoring and serving."""

    size_px: int = Field(224, ge=32, le=1024)
    """Side of the square the network sees in evaluation and serving."""
    stored_short_side_px: int = Field(256, ge=32, le=2048)
    """Photos are decoded once, down to this short side; smaller ones are kept as they are."""
    fit: Literal["stretch", "crop"] = "stretch"
    """Make the square by stretching the whole photo, or by its central square."""


class AugmentConfig(Section):
    """What training changes in a photo, drawn anew per (seed, epoch, photo)."""

    preset: Literal["seed", "dihedral", "strong", "none"] = "dihedral"
    """`seed`: rotation within 90 degrees and flips; `dihedral`: random crop and the eight symmetries;
    `strong`: that, with colour and erasing; `none`."""
    size_px: int | None = Field(None, ge=32, le=1024)
    """Side of the square the network is trained at. Default: `image.size_px`."""
    crop_area_min: Annotated[float, _CROPPED] = Field(0.6, gt=0, le=1)
    """Smallest share of the photo's area a random crop keeps."""
    colour_strength: Annotated[float, _RECOLOURED] = Field(0.4, ge=0, le=1)
    """Largest relative change of brightness, contrast and saturation."""
    erase_probability: Annotated[float, _RECOLOURED] = Field(0.25, ge=0, le=1)
    """Chance that a random rectangle of the photo is filled with its mean."""
    views: Annotated[int | None, _AUGMENTED] = Field(None, ge=1)
    """Number of fixed augmented views per photo, used in turn over the epochs and independent of `seed`. Default: none,
    every epoch draws a new one. With a fixed number, the frozen stages' activations can be cached."""
    mixup_alpha: float = Field(0.0, ge=0)
    """Beta parameter of mixup; 0 is off."""
    cutmix_alpha: float = Field(0.0, ge=0)
    """Beta parameter of cutmix; 0 is off. With mixup on as well, every batch draws one of the two."""
    no_class_share: float = Field(0.0, ge=0, le=0.5)
    """Share of the photos that are put in disorder, so that they show nothing, and belong to no class: the network
    learns to be unsure of what is unlike its photos. They count as wrong in the accuracy of training."""


class ModelConfig(Section):
    """The network."""

    architecture: Literal["resnet10", "resnet18", "resnet34", "resnet50"] = "resnet50"
    """Which residual network. A photo costs the smaller ones 0.2, 0.4 and 0.9 of ResNet50's arithmetic; of `resnet10`,
    one block a stage, nobody publishes ImageNet weights."""
    weights: str = "imagenet"
    """`imagenet` (torchvision's, cached), `none` (random), or a file: safetensors or a torch state dict."""
    hidden_layers: tuple[Annotated[int, Field(ge=1, le=16384)], ...] = ()
    """Widths of dense layers with ReLU between the pooled features and the classes."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout before the last layer."""
    frozen_stages: int = Field(0, ge=0, le=5)
    """How many stages keep their weights and statistics: stem, layer1, layer2, layer3, layer4."""

    @model_validator(mode="after")
    def _weights_are_published(self) -> ModelConfig:
        if self.architecture == "resnet10" and self.weights == "imagenet":
            raise ValueError(
                "architecture=resnet10: there are no ImageNet weights of it; set model.weights=none or name a file, "
                "or take resnet18"
            )
        return self


class TrainConfig(Section):
    """One training run."""

    workers: Literal["auto"] | Annotated[int, Field(ge=0)] | tuple[_Workers, _Workers] = "auto"
    """Data-parallel workers; `auto` is one per GPU, or one per machine where there is none; in a sweep, one a trial;
    where photos are few, 0. 0 trains in the command's own process: it starts at once, and is not replaced when it dies.
    `[1, 4]`: as many of 1 to 4 as `auto` would take at any time, in batches as large as those of 4; in a sweep, 1 a
    trial."""
    cpus_per_worker: Literal["auto"] | Annotated[float, Field(ge=0.5)] = "auto"
    """CPUs Ray reserves for a worker; `auto` is one, or down to a half where CPUs are few."""
    wait_for_workers_s: Literal["auto"] | Annotated[float, Field(ge=0)] = "auto"
    """How long to wait for a cluster that is too small; an autoscaler is asked for what is missing. `auto` is ten
    minutes where there is one, and one minute where machines are just joining."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train; `auto` takes GPUs where the cluster has some."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`auto` is bf16 where the GPU has bf16 or the CPU has bf16 instructions, else fp32."""
    epochs: int = Field(30, ge=1)
    """Passes over the training photos, at most."""
    time_budget_min: float | None = Field(None, gt=0)
    """Minutes from the first epoch's beginning to the last one's end: `epochs` is cut to what there is time for,
    planned anew after each at the pace so far; what is left of the cosine is spread over the epochs that are left. A
    faster machine then trains for more epochs. Default: no limit."""
    steps_per_epoch: int | None = Field(None, ge=1)
    """Optimizer steps in an epoch. Default: one pass over the training photos."""
    batch_size_per_worker: int = Field(32, ge=1)
    """Photos in one worker's batch."""
    accumulate_batches: int = Field(1, ge=1)
    """Batches whose gradients are added up before a step."""
    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    """Which optimizer."""
    momentum: Annotated[float, _SGD] = Field(0.9, ge=0, lt=1)
    """Momentum of SGD (Nesterov)."""
    learning_rate: Literal["auto"] | Annotated[float, Field(gt=0)] = 1e-4
    """Peak learning rate of the last stage, for the global batch. `auto` finds one by a short range test before the
    first epoch, says it, and draws it (`learning_rate.json`, `learning_rate.png`); a sweep takes numbers only."""
    head_learning_rate_factor: float = Field(1.0, gt=0)
    """The head's learning rate over that of the last stage."""
    stage_learning_rate_decay: Annotated[float, _STAGES_TRAINED] = Field(1.0, gt=0, le=1)
    """Each stage's learning rate over that of the stage above it."""
    weight_decay: float = Field(0.0, ge=0)
    """Weight decay, not applied to biases and norms."""
    schedule: Literal["constant", "plateau", "cosine"] = "cosine"
    """How the learning rate changes."""
    warmup_steps: Annotated[int, _COSINE] = Field(0, ge=0)
    """Steps in which the learning rate rises linearly from near zero."""
    plateau_factor: Annotated[float, _PLATEAU] = Field(0.1**0.5, gt=0, lt=1)
    """What the learning rate is multiplied by on a plateau."""
    plateau_patience_epochs: Annotated[int, _PLATEAU] = Field(2, ge=0)
    """Epochs without improvement before the learning rate is cut."""
    plateau_min_learning_rate: Annotated[float, _PLATEAU] = Field(5e-7, ge=0)
    """The learning rate is not cut below this."""
    monitor: Annotated[Literal["val_loss", "val_macro_f1", "train_loss"], _MONITORED] = "val_loss"
    """What the plateau schedule and early stopping look at."""
    early_stopping_patience_epochs: int | None = Field(None, ge=1)
    """Epochs without improvement before the run stops. Default: it does not stop early."""
    select_by: Literal["val_macro_f1", "val_loss", "train_loss", "last"] = "val_macro_f1"
    """Which epoch is the best one, and kept. `last`: the last, whatever validation says. Where the learning rate ends
    at zero and weights are averaged (`train.ema_decay`), the last epochs differ by little but chance, and the best of
    them is the luckiest on the photos it was chosen by."""
    unfreeze_every_epochs: int | None = Field(None, ge=1)
    """Start with every stage frozen and free one more after so many epochs, down to `model.frozen_stages`."""
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    """Share of the target spread over all classes."""
    class_balance: Literal["none", "weights", "sampler"] = "none"
    """Weigh the loss by inverse class frequency, or draw every class equally often."""
    ema_decay: float = Field(0.0, ge=0, lt=1)
    """Decay of the moving average of weights that is evaluated and served; 0 is off."""
    clip_gradient_norm: float | None = Field(None, gt=0)
    """Largest global gradient norm. Default: gradients are not clipped."""
    keep_checkpoints: Literal["all"] | Annotated[int, Field(ge=1)] = 2
    """How many of the newest checkpoints stay for `--resume`, besides the best."""
    checkpoint_every_min: float = Field(10.0, gt=0)
    """Minutes after which an epoch that has not ended is saved, so that a kill costs no more; its end always is."""
    cache_frozen: Literal["auto", "on", "off"] = "auto"
    """Keep the activations of the frozen stages on disk instead of computing them in every epoch. `auto`: where there
    are fewer views (`augment.views`) than epochs and they fit `train.cache_frozen_gib`."""
    cache_frozen_gib: Annotated[float, _ACTIVATIONS_KEPT] = Field(8.0, gt=0)
    """Disk space for activations on every machine; those used least recently make room."""
    cache_frozen_dir: Annotated[str | None, _ACTIVATIONS_KEPT] = None
    """Folder of the activations. Default: `ray-trash` in the user's cache folder."""
    max_worker_failures: Annotated[int, _WORKER_PROCESSES] = Field(3, ge=0)
    """How often dead workers are replaced before the run gives up."""
    mlflow_tracking_uri: str | None = None
    """MLflow's tracking server. Default: the run is not recorded there."""

    @model_validator(mode="after")
    def _fewest_before_most(self) -> TrainConfig:
        if isinstance(self.workers, tuple) and self.workers[0] >= self.workers[1]:
            raise ValueError(
                f"workers={list(self.workers)}: give the fewest, then the most, such as [1, 4], or one number"
            )
        return self

    def sharers(self, workers: int) -> int:
        """Return how many workers' batches make a step's, where so many train: the most of those that come and go."""
        return self.workers[1] if isinstance(self.workers, tuple) else workers

    def sizes(self, workers: int) -> range:
        """Return the numbers of workers that may train, where so many begin."""
        return (
            range(self.workers[0], self.workers[1] + 1)
            if isinstance(self.workers, tuple)
            else range(workers, workers + 1)
        )


class EvaluateConfig(Section):
    """How a checkpoint is scored, stored in it."""

    views: Literal[1, 8] = 1
    """1: the photo as it is; 8: the mean over its eight symmetries, at eight times the cost; so is validating an epoch
    that is the best so far (by `train.select_by: last` the one that ends the run)."""
    forward_batch_photos: int = Field(32, ge=1)
    """Photos in one forward pass."""


_LAST_STAGE_PX = 32
"""Pixels that become one value where a ResNet's last stage ends: half as many after each of five steps."""


class Config(Section):
    """Everything a run depends on."""

    name: RunName
    """The run's folder under `storage`: letters, digits, dot, dash, underscore."""
    storage: str = "runs"
    """Folder of runs: a local path or a URI of a filesystem pyarrow opens."""
    seed: int = Field(0, ge=0, lt=2**31)
    """Every random draw derives from it."""
    data: DataConfig
    """Which photos."""
    image: ImageConfig = ImageConfig()
    """From a photo to the network's input."""
    augment: AugmentConfig = AugmentConfig()
    """What training changes in a photo."""
    model: ModelConfig = ModelConfig()
    """The network."""
    train: TrainConfig = TrainConfig()
    """One training run."""
    evaluate: EvaluateConfig = EvaluateConfig()
    """How a checkpoint is scored."""
    tune: TuneConfig = TuneConfig()
    """A sweep."""
    serve: ServeConfig = ServeConfig()
    """The endpoint."""

    @property
    def train_size_px(self) -> int:
        """Side of the square the network is trained at, in pixels."""
        return self.augment.size_px or self.image.size_px

    @model_validator(mode="after")
    def _monitored_values_are_measured(self) -> Config:
        if self.train.unfreeze_every_epochs is not None and self.model.frozen_stages == 5:
            raise ValueError("train.unfreeze_every_epochs: model.frozen_stages=5 leaves no stage to free")
        obstacle = why_not_cached(self)
        if self.train.cache_frozen == "on" and obstacle:
            raise ValueError(f"train.cache_frozen=on: {obstacle}")
        if self.train.batch_size_per_worker == 1 and (obstacle := why_no_batch_of_one(self)):
            raise ValueError(f"train.batch_size_per_worker=1: {obstacle}")
        return self


def why_not_cached(config: Config) -> str:
    """Say what keeps the frozen stages' activations from being the same in every epoch; nothing is an empty string."""
    augment = config.augment
    if not config.model.frozen_stages:
        return "no stage is frozen (model.frozen_stages=0)"
    if config.train.unfreeze_every_epochs is not None:
        return "stages are freed on the way (train.unfreeze_every_epochs)"
    if augment.mixup_alpha or augment.cutmix_alpha:
        return "photos are mixed anew in every batch (augment.mixup_alpha, augment.cutmix_alpha)"
    if augment.no_class_share:
        return "photos are put in disorder anew in every batch (augment.no_class_share)"
    if augment.preset != "none" and augment.views is None:
        return "every epoch draws new views; set augment.views"
    return ""


def why_no_batch_of_one(config: Config) -> str:
    """Say what keeps training from taking a single photo as a batch; nothing is an empty string."""
    if config.train_size_px > _LAST_STAGE_PX or config.model.frozen_stages == 5:
        return ""
    return (
        f"of a photo of {_LAST_STAGE_PX} pixels the last stage keeps one value a channel, and batch norm needs "
        "two in a batch; take larger photos (image.size_px, augment.size_px) or batches, or freeze all stages "
        "(model.frozen_stages=5)"
    )


def unmet_needs(config: Config) -> dict[str, str]:
    """Return the keys that have no effect in this config, and what would give them one."""
    return {key: need.what for key, need in _needs().items() if not need.is_met(config)}


@cache
def _needs() -> dict[str, Needs]:
    return {key: need for key, field in _leaves(Config) for need in field.metadata if isinstance(need, Needs)}


@cache
def known_keys() -> tuple[str, ...]:
    """List every dotted key of the tree, leaves only, in the order of definition."""
    return tuple(key for key, _ in _leaves(Config))


@cache
def word_keys() -> frozenset[str]:
    """Return the keys that take a word or a list of words, and nothing else: `01` and `yes` are words there."""
    return frozenset(key for key, field in _leaves(Config) if _takes_only_words(field.annotation))


def _takes_only_words(annotation: Any) -> bool:
    if get_origin(annotation) is Annotated:
        return _takes_only_words(get_args(annotation)[0])
    if get_origin(annotation) is Literal:
        return False
    parts = [part for part in get_args(annotation) if part not in (NoneType, Ellipsis)]
    return annotation is str or (bool(parts) and all(map(_takes_only_words, parts)))


def _leaves(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, Section):
            yield from _leaves(annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field
