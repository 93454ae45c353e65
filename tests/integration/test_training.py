"""Training on a shared local Ray: exact validation, frozen stages, streams, worker counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from ray_trash.config import Config, load_config
from ray_trash.errors import DataError
from ray_trash.model.checkpoint import open_checkpoint
from ray_trash.model.tensors import from_safetensors
from ray_trash.train.run import TrainResult, prepare_run, run_training
from tests.e2e.command import write_config
from tests.photos import make_photos

pytestmark = pytest.mark.usefixtures("ray_cluster")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("photos"), 12)


def configured(folder: Path, photos: Path, **changes: Any) -> Config:
    overrides = {key.replace("__", "."): value for key, value in changes.items()}
    return load_config(write_config(folder, photos), {"train.epochs": 1, **overrides})


def train(config: Config, *, resume: bool = False) -> TrainResult:
    console = Console(quiet=True)
    return run_training(prepare_run(config, resume=resume, overwrite=False, console=console), console=console)


def history(result: TrainResult) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.run.read_bytes("metrics.jsonl").splitlines()]


def test_frozen_stages_keep_every_bit_through_two_workers_and_resume(photos: Path, tmp_path: Path) -> None:
    config = configured(tmp_path, photos, model__frozen_stages=3, train__workers=2)
    console = Console(quiet=True)
    prepared = prepare_run(config, resume=False, overwrite=False, console=console)
    before = from_safetensors(prepared.initial, "initial")
    run_training(prepared, console=console)
    longer = configured(tmp_path, photos, model__frozen_stages=3, train__workers=2, train__epochs=2)
    after = open_checkpoint(train(longer, resume=True).checkpoint).weights()
    frozen = ("conv1.", "bn1.", "layer1.", "layer2.")
    for name, tensor in before.items():
        if name.startswith(frozen):
            assert torch.equal(tensor, after[name]), name
    assert any(not torch.equal(before[name], after[name]) for name in before if name.startswith("layer3."))
    assert any(not torch.equal(before[name], after[name]) for name in before if name.startswith("fc."))


def test_two_workers_validate_every_photo_once_and_agree_with_one(photos: Path, tmp_path: Path) -> None:
    records = {}
    for workers, batch_size in ((1, 8), (2, 4)):
        folder = tmp_path / str(workers)
        folder.mkdir()
        config = configured(
            folder,
            photos,
            train__workers=workers,
            train__batch_size_per_worker=batch_size,
            augment__preset="none",
        )
        records[workers] = history(train(config))[0]
    audit = json.loads((tmp_path / "1" / "runs" / "tiny" / "audit.json").read_text())
    assert records[1]["val_n"] == records[2]["val_n"] == audit["splits"]["val"]["n"]
    # The same global batches and, with every stage frozen, the same statistics: one head, up to rounding.
    assert records[2]["train_loss"] == pytest.approx(records[1]["train_loss"], rel=1e-4)
    assert records[2]["val_loss"] == pytest.approx(records[1]["val_loss"], rel=1e-4)


def test_streamed_photos_train_to_the_same_bits_as_photos_in_memory(photos: Path, tmp_path: Path) -> None:
    logs = []
    for cache in ("memory", "stream"):
        folder = tmp_path / cache
        folder.mkdir()
        record = history(train(configured(folder, photos, data__cache=cache)))[0]
        logs.append({key: value for key, value in record.items() if key not in ("seconds", "images_per_s")})
    assert logs[0] == logs[1]


def test_a_photo_that_vanishes_while_it_is_streamed_is_named(photos: Path, tmp_path: Path) -> None:
    own = make_photos(tmp_path / "own", 8)
    config = configured(tmp_path, own, data__cache="stream", train__max_worker_failures=0, train__epochs=50)
    console = Console(quiet=True)
    prepared = prepare_run(config, resume=False, overwrite=False, console=console)
    victim = sorted((own / "glass").iterdir())[0]

    class VanishOnceStarted(Console):
        def print(self, *objects: Any, **options: Any) -> None:
            if any("epoch   1" in str(part) for part in objects):
                victim.unlink(missing_ok=True)

    with pytest.raises(DataError, match=f"glass/{victim.name}"):
        run_training(prepared, console=VanishOnceStarted(quiet=True))


def test_every_documented_file_is_in_the_run_directory(photos: Path, tmp_path: Path) -> None:
    result = train(configured(tmp_path, photos, train__unfreeze_every_epochs=None))
    names = set(result.run.list_names())
    assert names == {
        *("config.json", "audit.json", "catalog.parquet", "metrics.jsonl", "tensorboard", "augmentation.png"),
        *("checkpoint", "checkpoints", "run.json", "ray"),
    }
    document = open_checkpoint(result.checkpoint).document
    assert document.classes == ("glass", "metal", "paper")
    assert np.isfinite(document.metrics["val_loss"])


def test_a_resumed_run_that_is_over_trains_no_further(photos: Path, tmp_path: Path) -> None:
    config = configured(tmp_path, photos)
    first = history(train(config))
    assert history(train(config, resume=True)) == first
