"""The example's flat loop and the product's worker do the same arithmetic."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples import plain_loop
from tests.integration.training import configured, history, train

pytestmark = pytest.mark.usefixtures("ray_cluster")


def test_the_flat_loop_of_the_example_has_the_losses_of_one_worker(tiny_photos: Path, tmp_path: Path) -> None:
    # In fp32. What is left is rounding: the example takes means of a batch where the product adds up photos.
    config = configured(tmp_path, tiny_photos, data__split="stratified", model__frozen_stages=4, train__workers=0)
    train(config)
    ours = [(record["train_loss"], record["val_loss"]) for record in history(tmp_path / "runs" / "tiny")]
    flat = [(record["train_loss"], record["val_loss"]) for record in plain_loop.train(config)]
    assert len(ours) == len(flat) == 2
    for product, example in zip(ours, flat, strict=True):
        assert example == pytest.approx(product, rel=1e-6)
