"""What benchmarks of answering need: a checkpoint of random weights, and photos."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from ray_trash.dataset.read import PhotoFolder
from ray_trash.fetch.sample import render_sample
from ray_trash.image.preprocess import Preprocessing
from ray_trash.model.calibration import Calibration
from ray_trash.model.checkpoint import open_checkpoint, write_checkpoint
from ray_trash.model.document import CheckpointDocument
from ray_trash.model.golden import compute_golden
from ray_trash.model.network import build_network
from ray_trash.quantize.photos import SidedPhotos
from ray_trash.quantize.run import quantize_checkpoint
from ray_trash.storage import Storage
from ray_trash.terminal.say import Terminal

CLASSES = ("cardboard", "glass", "metal", "paper", "plastic", "trash")


def write_random_checkpoint(folder: Path, *, size_px: int = 224, seed: int = 0, is_good: bool = True) -> None:
    """Write a checkpoint of random weights, which cost as much to compute as trained ones.

    Another seed is another model. One that is not good answers its golden photo otherwise than it says.
    """
    torch.manual_seed(seed)
    network = build_network(len(CLASSES)).eval()
    preprocessing = Preprocessing(size_px, size_px + 32, "stretch")
    calibration = Calibration.none(len(CLASSES))
    golden = compute_golden(network, preprocessing, 1, calibration)
    if not is_good:
        golden = replace(golden, probabilities=golden.probabilities[::-1])
    document = CheckpointDocument(
        classes=CLASSES,
        hidden_layers=(),
        dropout=0.0,
        frozen_stages=0,
        preprocessing=preprocessing,
        views=1,
        calibration=calibration,
        metrics={},
        data={},
        config={},
        epoch=0,
        created_at="2026-01-01T00:00:00+00:00",
        versions={},
        golden=golden,
    )
    write_checkpoint(folder, network.state_dict(), document)


def write_int8_checkpoint(origin: Path, folder: Path, photos: Path) -> None:
    """Write what `quantize` makes of a checkpoint by a folder of photos, whatever it says of them."""
    opened, files = open_checkpoint(origin), sorted(photos.iterdir())
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    table = pa.table({"path": [file.name for file in files], "sha256": digests})
    labels = np.zeros(len(files), np.int64)
    sided = SidedPhotos(PhotoFolder.at(str(photos)), opened.document.preprocessing, table, table, labels)
    place = Storage.at(folder)
    quantize_checkpoint(opened, sided, place, max_loss_points=None, terminal=Terminal.stderr())


@contextlib.contextmanager
def photos_of(data: str | None, n: int) -> Iterator[list[Path]]:
    """Yield `n` JPEG files: of a folder, or rendered for the time being; fewer files are repeated."""
    with tempfile.TemporaryDirectory() as folder:
        if data is None:
            render_sample(Path(folder), per_class=min(20, -(-n // len(CLASSES))))
        files = sorted(Path(data or folder).rglob("*.jpg"))
        yield [files[number % len(files)] for number in range(n)]
