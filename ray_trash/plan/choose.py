"""Settings for a folder of photos, where nobody wrote a config: by the set, the machine, the weights and the time.

Each setting comes with its reason. The time is that of the estimate that `plan` makes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray_trash.cluster.inventory import Inventory
from ray_trash.config import Config, config_from_tree, config_with, override, unmet_needs
from ray_trash.dataset.listing import Listing
from ray_trash.errors import ConfigError
from ray_trash.terminal.text import counted
from ray_trash.terminal.text import minutes as duration

FEWEST_EPOCHS = 5
"""Fewer are no training; a cheaper recipe is taken in their place."""
MOST_EPOCHS = 100
_TRAIN_SHARE = 0.7
"""What `grouped` leaves to training, about; only to say which batches make sense."""
_FEWEST_STEPS = 10
"""Of an epoch: with batches as large as in a recipe, small sets would have two or three."""
_SCRATCH_PASSES = 12_000
"""Photos that a network from random weights sees at least, those that it sees again included. A guess: the recipe
taken here has not come to its end on the rendered sample set after 2,000."""


@dataclass(frozen=True)
class Setting:
    """A key of the config, its value, and why, in words."""

    key: str
    value: Any
    why: str


@dataclass(frozen=True)
class Chosen:
    """A config for a folder of photos, its text for `config.yaml`, and what was chosen."""

    config: Config
    text: str
    settings: tuple[Setting, ...]
    expected_min: float | None = None

    def lines(self) -> list[str]:
        """Say what was chosen and why."""
        said = [f"settings for {self.config.data.root}, which nobody wrote a config for:"]
        said += [f"  {one.key}={_plain(one.value)}: {one.why}" for one in self.settings]
        if self.expected_min is not None:
            said.append(f"  all of it takes about {duration(60 * self.expected_min)}")
        return said


def run_name(root: str) -> str:
    """Name a run after a folder of photos."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", root.rstrip("/").rpartition("/")[2]).strip("-._")[:128] or "photos"


def choose(
    root: str,
    listing: Listing,
    there_is: Inventory,
    *,
    has_weights: bool,
    overrides: Mapping[str, Any],
    minutes: float | None,
    estimated: Callable[[Config], Mapping[str, Any]],
) -> Chosen:
    """Choose the settings of one training.

    Args:
        root: The photos, as `data.root` has them.
        listing: Of these.
        there_is: To compute on.
        has_weights: Whether ImageNet weights are there, without a download.
        overrides: Keys that are settled already.
        minutes: For all of it. Default: no limit.
        estimated: The document of `plan.run.plan_run` for a config; asked only where there is a limit.

    Raises:
        ConfigError: An override is refused, or not even the cheapest training fits the time.
    """
    on_gpu = there_is.resources.get("GPU", 0) > 0 and overrides.get("train.device") != "cpu"
    pretrained = overrides.get("model.weights", "imagenet" if has_weights else "none") != "none"
    n_train = max(1, round(_TRAIN_SHARE * len(listing.files)))
    common = _common(listing, there_is, on_gpu=on_gpu, has_weights=has_weights, n_train=n_train)
    recipes = _recipes(n_train, on_gpu=on_gpu, pretrained=pretrained)
    for recipe in recipes:
        chosen = _chosen(root, [*common, *recipe], overrides)
        if minutes is None:
            return chosen
        fitted = _fitted(root, [*common, *recipe], overrides, minutes, estimated(chosen.config))
        if fitted is not None:
            return fitted
    least_min = _least_min(estimated(chosen.config))
    raise ConfigError(
        f"--minutes {minutes:g}: {FEWEST_EPOCHS} epochs of the cheapest training and what goes with them take about "
        f"{least_min:.1f} minutes here; give more minutes, or fewer photos"
    )


def _common(listing: Listing, there_is: Inventory, *, on_gpu: bool, has_weights: bool, n_train: int) -> list[Setting]:
    resources, n_files = there_is.resources, len(listing.files)
    if has_weights:
        weights = Setting("model.weights", "imagenet", "they are on this machine")
    else:
        why = "ImageNet's are not on this machine; --set model.weights=imagenet downloads them, and is worth it"
        weights = Setting("model.weights", "none", why)
    if on_gpu or there_is.cluster:
        what = f"{resources.get('GPU', 0):g} GPUs, {resources['CPU']:g} CPUs, {counted(there_is.n_for_work, 'machine')}"
        workers = Setting("train.workers", "auto", f"one for each GPU, or for each machine without: {what}")
    else:
        workers = Setting(
            "train.workers", 0, f"no GPU, {resources['CPU']:g} CPUs: this process trains, and uses them all"
        )
    size = 32
    while size > 8 and n_train // size < _FEWEST_STEPS:
        size //= 2
    batch = Setting("train.batch_size_per_worker", size, f"about {n_train:,} of {n_files:,} photos are trained on")
    return [weights, workers, batch]


def _recipes(n_train: int, *, on_gpu: bool, pretrained: bool) -> list[list[Setting]]:
    """List ways to train, the best first, each with epochs for who has the time."""
    if not pretrained:
        return [_from_scratch(n_train, size_px=size_px) for size_px in ((128, 64) if on_gpu else (64,))]
    if on_gpu:
        return [_fine_tuned(1, size_px=192, epochs=40, why="of configs/trashnet.yaml: a GPU has the time")]
    return [
        _kept(3, size_px=224, views=4, epochs=20),
        _kept(4, size_px=224, views=4, epochs=20),
        _kept(4, size_px=160, views=2, epochs=20),
        _kept(5, size_px=160, views=1, epochs=20),
    ]


def _from_scratch(n_train: int, *, size_px: int) -> list[Setting]:
    epochs = min(MOST_EPOCHS, max(FEWEST_EPOCHS, round(_SCRATCH_PASSES / n_train)))
    seen = f"random weights learn from {_SCRATCH_PASSES:,} views at least, {n_train:,} an epoch"
    return [
        Setting("image.size_px", size_px, "random weights learn large shapes first, and small squares are quick"),
        Setting("image.stored_short_side_px", size_px * 3 // 2, "room for random crops"),
        Setting("image.fit", "stretch", "the whole photo"),
        Setting("augment.crop_area_min", 0.7, "mild crops: little is known of the photos"),
        Setting("train.learning_rate", 1e-3, "as the rendered sample set takes it"),
        Setting("train.weight_decay", 0.02, "likewise"),
        Setting("train.warmup_steps", 10, "likewise"),
        Setting("train.epochs", epochs, seen),
    ]


def _fine_tuned(frozen: int, *, size_px: int, epochs: int, why: str) -> list[Setting]:
    return [
        Setting("model.frozen_stages", frozen, why),
        Setting("augment.size_px", size_px, "smaller squares than in evaluation cost less, and are no worse"),
        Setting("train.learning_rate", 6e-4, "as TrashNet takes it"),
        Setting("train.head_learning_rate_factor", 5.0, "the head begins with random weights, the rest does not"),
        Setting("train.weight_decay", 0.02, "as TrashNet takes it"),
        Setting("train.warmup_steps", 50, "as TrashNet takes it"),
        Setting("train.label_smoothing", 0.1, "as TrashNet takes it"),
        Setting("train.epochs", epochs, "as many as fine-tuning has a use for"),
    ]


def _kept(frozen: int, *, size_px: int, views: int, epochs: int) -> list[Setting]:
    why = f"no GPU: {frozen} of 5 stages keep their ImageNet weights, and compute once what they say of a photo"
    tuned = [
        one for one in _fine_tuned(frozen, size_px=size_px, epochs=epochs, why=why) if one.key != "augment.size_px"
    ]
    return [
        Setting("image.size_px", size_px, "what the weights were made for" if size_px == 224 else "as time allows"),
        Setting("image.stored_short_side_px", size_px + 32, "room for random crops"),
        Setting("augment.views", views, f"{counted(views, 'view')} of each photo are computed once, not one an epoch"),
        *tuned,
    ]


def _chosen(
    root: str, settings: Sequence[Setting], overrides: Mapping[str, Any], expected_min: float | None = None
) -> Chosen:
    own = {one.key: one.value for one in settings if one.key not in overrides}
    name = {"name": run_name(root), "data.root": root}
    config = config_from_tree({"name": name["name"], "data": {"root": root}})
    config = override(override(config, own), overrides) if overrides else override(config, own)
    inert = unmet_needs(config)
    kept = tuple(one for one in settings if one.key in own and one.key not in inert)
    head = "".join(f"# {one.key}: {one.why}\n" for one in kept)
    values = {**name, **{one.key: one.value for one in kept}, **overrides}
    text = f"# Chosen by `ray-trash run` for a folder of photos.\n{head}name: {config.name}\n"
    return Chosen(config, config_with(text, values), kept, expected_min)


def _fitted(
    root: str,
    settings: Sequence[Setting],
    overrides: Mapping[str, Any],
    minutes: float,
    document: Mapping[str, Any],
) -> Chosen | None:
    """Give the time that is left to epochs; None where too few fit."""
    epoch_s, rest_s = _times(document)
    epochs = min(MOST_EPOCHS, int((60 * minutes - rest_s) / epoch_s))
    if "train.epochs" in overrides:
        epochs = overrides["train.epochs"] if overrides["train.epochs"] <= epochs else 0
    if epochs < min(FEWEST_EPOCHS, overrides.get("train.epochs", FEWEST_EPOCHS)) or epochs < 1:
        return None
    left = [one for one in settings if one.key != "train.epochs"]
    why = f"an epoch takes about {epoch_s:.1f} s here, all else {rest_s:.0f} s"
    budget = f"what --minutes {minutes:g} leaves to epochs; a busier machine trains for fewer"
    left += [
        Setting("train.epochs", epochs, why),
        Setting("train.time_budget_min", round(minutes - rest_s / 60, 2), budget),
    ]
    return _chosen(root, left, overrides, (rest_s + epochs * epoch_s) / 60)


def _times(document: Mapping[str, Any]) -> tuple[float, float]:
    """Return the seconds of an epoch, and of all that goes with a training."""
    epoch_s = sum(document["measured"]["epoch"].values())
    return epoch_s, document["estimate"]["seconds"] - document["training"]["epochs"] * epoch_s


def _least_min(document: Mapping[str, Any]) -> float:
    epoch_s, rest_s = _times(document)
    return (rest_s + FEWEST_EPOCHS * epoch_s) / 60


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
