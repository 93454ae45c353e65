from __future__ import annotations

import pytest

from ray_trash.config import Config, config_from_tree
from ray_trash.errors import ConfigError
from ray_trash.train.steps import require_no_batch_of_one


def config(size_px: int = 32, **train: object) -> Config:
    return config_from_tree(
        {"name": "a", "data": {"root": "photos"}, "image": {"size_px": size_px}, "train": {**train}}
    )


def test_a_last_batch_of_one_photo_is_refused_before_training_begins() -> None:
    with pytest.raises(ConfigError, match=r"batch_size_per_worker=2: 5 photos on 1 worker leave a batch of one"):
        require_no_batch_of_one(config(batch_size_per_worker=2), 5, 1)
    with pytest.raises(ConfigError, match="9 photos on 8 workers leave a batch of one"):
        require_no_batch_of_one(config(), 9, 8)
    with pytest.raises(ConfigError, match="of a photo of 32 pixels"):
        require_no_batch_of_one(config(batch_size_per_worker=3, accumulate_batches=2), 7, 1)


def test_batches_that_batch_norm_takes_are_let_pass() -> None:
    require_no_batch_of_one(config(batch_size_per_worker=2), 6, 1)
    require_no_batch_of_one(config(batch_size_per_worker=2, steps_per_epoch=3), 5, 1)
    require_no_batch_of_one(config(size_px=33, batch_size_per_worker=1), 5, 1)


def test_of_workers_that_come_and_go_every_number_is_looked_at() -> None:
    require_no_batch_of_one(config(batch_size_per_worker=2, workers=3), 12, 3)
    with pytest.raises(ConfigError, match="12 photos on 2 workers leave a batch of one"):
        require_no_batch_of_one(config(batch_size_per_worker=2, workers=[1, 3]), 12, 3)
    require_no_batch_of_one(config(batch_size_per_worker=2, workers=[1, 2]), 12, 1)
