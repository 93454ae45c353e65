"""The loss of a batch against torch's own and against hand-made mixtures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ray_trash.config import AugmentConfig
from ray_trash.train.loss import Mixture, inverse_frequency_weights, mix, summed_loss

LABELS = torch.tensor([0, 1, 2, 1])
LOGITS = torch.tensor([[2.0, 0.0, 1.0], [0.0, 1.0, 0.5], [1.0, 1.0, 3.0], [0.2, 0.1, 0.0]])
PHOTOS = torch.arange(4 * 3 * 8 * 8, dtype=torch.float32).reshape(4, 3, 8, 8)


def plain(labels: torch.Tensor = LABELS) -> Mixture:
    return Mixture(PHOTOS, labels, labels, 1.0)


def test_the_loss_is_torch_s_cross_entropy_summed() -> None:
    loss = summed_loss(LOGITS, plain(), class_weights=None, label_smoothing=0.1)
    expected = F.cross_entropy(LOGITS, LABELS, label_smoothing=0.1, reduction="sum")
    assert loss == pytest.approx(float(expected))


def test_class_weights_average_to_one_over_the_training_photos() -> None:
    labels = np.array([0] * 8 + [1] * 2)
    weights = inverse_frequency_weights(labels, 2).numpy()
    assert weights[labels].mean() == pytest.approx(1.0)
    assert weights[1] == pytest.approx(4 * weights[0])


def test_a_class_weight_scales_its_photos_losses() -> None:
    weights = torch.tensor([1.0, 3.0, 1.0])
    loss = summed_loss(LOGITS, plain(), class_weights=weights, label_smoothing=0.0)
    parts = F.cross_entropy(LOGITS, LABELS, reduction="none")
    assert loss == pytest.approx(float((parts * weights[LABELS]).sum()))


def test_a_mixed_batch_s_loss_is_mixed_by_the_same_share() -> None:
    other = LABELS.flip(0)
    batch = Mixture(PHOTOS, LABELS, other, 0.3)
    loss = summed_loss(LOGITS, batch, class_weights=None, label_smoothing=0.0)
    first, second = (F.cross_entropy(LOGITS, labels, reduction="sum") for labels in (LABELS, other))
    assert loss == pytest.approx(float(0.3 * first + 0.7 * second))


def test_nothing_is_mixed_unless_asked() -> None:
    batch = mix(PHOTOS, LABELS, AugmentConfig(), np.random.default_rng(0))
    assert batch.share == 1.0
    assert batch.photos is PHOTOS


def test_mixup_blends_whole_photos_by_its_share() -> None:
    batch = mix(PHOTOS, LABELS, AugmentConfig(mixup_alpha=1.0), np.random.default_rng(3))
    assert 0 < batch.share < 1
    blends = [
        any(
            torch.allclose(batch.photos[i], batch.share * PHOTOS[i] + (1 - batch.share) * PHOTOS[j], rtol=1e-4)
            for j in range(4)
        )
        for i in range(4)
    ]
    assert all(blends)


def test_cutmix_counts_the_share_that_was_left() -> None:
    for seed in range(10):
        batch = mix(PHOTOS, LABELS, AugmentConfig(cutmix_alpha=1.0), np.random.default_rng(seed))
        own = (batch.photos == PHOTOS).all(dim=1).float().mean(dim=(1, 2))
        moved = batch.labels != batch.other_labels
        assert own[moved].numpy() == pytest.approx(np.full(int(moved.sum()), batch.share))


def test_photos_of_no_class_are_to_be_called_nothing_whatever_their_label_is() -> None:
    weights = torch.tensor([1.0, 3.0, 1.0])
    batch = Mixture(PHOTOS, LABELS, LABELS.flip(0), 0.3, of_no_class=torch.tensor([1, 3]))
    loss = summed_loss(LOGITS, batch, class_weights=weights, label_smoothing=0.1)
    kept = Mixture(PHOTOS[[0, 2]], LABELS[[0, 2]], LABELS.flip(0)[[0, 2]], 0.3)
    expected = summed_loss(LOGITS[[0, 2]], kept, class_weights=weights, label_smoothing=0.1)
    uniform = torch.full((2, 3), 1 / 3)
    expected += F.cross_entropy(LOGITS[[1, 3]], uniform, reduction="sum")
    assert loss == pytest.approx(float(expected))


def test_as_many_photos_as_asked_are_put_in_disorder_and_the_others_stay() -> None:
    photos, labels = torch.rand((400, 3, 8, 8)), torch.zeros(400, dtype=torch.int64)
    batch = mix(photos, labels, AugmentConfig(no_class_share=0.25), np.random.default_rng(0))
    assert batch.of_no_class is not None
    assert 70 < len(batch.of_no_class) < 130
    changed = (batch.photos != photos).flatten(1).any(1).nonzero()[:, 0]
    assert set(changed.tolist()) <= set(batch.of_no_class.tolist())
    assert len(changed) > 0.9 * len(batch.of_no_class)
    assert batch.share == 1.0


def test_a_batch_in_which_no_photo_is_put_in_disorder_is_as_it_was() -> None:
    batch = mix(PHOTOS, LABELS, AugmentConfig(no_class_share=1e-9), np.random.default_rng(0))
    assert batch.of_no_class is None
    assert batch.photos is PHOTOS
