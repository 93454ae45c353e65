"""The training loss of a batch: label smoothing, class weights, mixup and cutmix, photos of no class.

Losses are sums over photos; the caller divides by the photos of the whole step, over all workers.
Letters: B photos, C classes, S side in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ray_trash.config import AugmentConfig
from ray_trash.model.transfer import to_device
from ray_trash.train.disorder import disordered


@dataclass(frozen=True)
class Mixture:
    """A batch (B, 3, S, S) whose photos may carry a second one, with the labels (B,) of the first and of the second.

    `share` is the first photo's, in 0..1; 1 where nothing was mixed. `of_no_class` numbers the photos, (K,), that show
    nothing any more.
    """

    photos: Tensor
    labels: Tensor
    other_labels: Tensor
    share: float
    of_no_class: Tensor | None = None


def mix(photos: Tensor, labels: Tensor, augment: AugmentConfig, random: np.random.Generator) -> Mixture:
    """Do what the recipe does to whole batches: mix photos with each other, then put some of them in disorder."""
    mixture = _mixed(photos, labels, augment, random)
    if not augment.no_class_share:
        return mixture
    chosen = to_device(np.flatnonzero(random.random(len(labels)) < augment.no_class_share), labels.device)
    if not len(chosen):
        return mixture
    changed = mixture.photos.clone()
    changed[chosen] = disordered(changed[chosen], random)
    return replace(mixture, photos=changed, of_no_class=chosen)


def _mixed(photos: Tensor, labels: Tensor, augment: AugmentConfig, random: np.random.Generator) -> Mixture:
    """Blend every photo with another of its batch, or paste a rectangle of the other into it.

    Source: Zhang et al., "mixup", 2018; Yun et al., "CutMix", 2019.
    """
    kinds = [kind for kind in ("mixup", "cutmix") if getattr(augment, f"{kind}_alpha") > 0]
    if not kinds or len(labels) < 2:
        return Mixture(photos, labels, labels, 1.0)
    kind = kinds[int(random.integers(len(kinds)))]
    alpha = getattr(augment, f"{kind}_alpha")
    share = float(random.beta(alpha, alpha))
    partner = to_device(random.permutation(len(labels)), labels.device)
    if kind == "mixup":
        mixed = photos * share + photos[partner] * (1 - share)
        return Mixture(mixed, labels, labels[partner], share)
    height, width = photos.shape[2:]
    cut_height, cut_width = (round(side * (1 - share) ** 0.5) for side in (height, width))
    top = int(random.integers(0, height - cut_height + 1))
    left = int(random.integers(0, width - cut_width + 1))
    window = (slice(None), slice(None), slice(top, top + cut_height), slice(left, left + cut_width))
    mixed = photos.clone()
    mixed[window] = photos[partner][window]
    return Mixture(mixed, labels, labels[partner], 1 - cut_height * cut_width / (height * width))


def summed_loss(logits: Tensor, batch: Mixture, *, class_weights: Tensor | None, label_smoothing: float) -> Tensor:
    """Return the cross-entropy of logits (B, C), summed over the batch's photos, as a scalar in float32.

    `class_weights` (C,) have a mean of 1 over the training photos; None is all 1. `label_smoothing` is the share of the
    target that is spread over all classes, as all of it is for photos of no class.

    Source of the latter: Hendrycks et al., "Deep Anomaly Detection with Outlier Exposure", 2019.
    """

    def against(labels: Tensor) -> Tensor:
        losses = F.cross_entropy(logits.float(), labels, label_smoothing=label_smoothing, reduction="none")
        if class_weights is not None:
            losses = losses * class_weights[labels]
        if batch.of_no_class is not None:
            losses[batch.of_no_class] = -F.log_softmax(logits[batch.of_no_class].float(), dim=1).mean(1)
        return losses.sum()

    if batch.share == 1.0:
        return against(batch.labels)
    return batch.share * against(batch.labels) + (1 - batch.share) * against(batch.other_labels)


def inverse_frequency_weights(labels: np.ndarray, n_classes: int) -> Tensor:
    """Return class weights (C,) float32, inverse to the class's photos, with a mean of 1 over the photos."""
    counts = np.bincount(labels, minlength=n_classes)
    present = counts > 0
    weights = np.where(present, len(labels) / (present.sum() * np.maximum(counts, 1)), 1.0)
    return torch.from_numpy(weights.astype(np.float32))
