"""Checkpoints of untrained networks, for what reads checkpoints; networks that cost little, for what trains them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from pathlib import Path

import pytest
import torch

from ray_trash.image.preprocess import Preprocessing
from ray_trash.model import network as network_module
from ray_trash.model.calibration import Calibration
from ray_trash.model.checkpoint import MARKER, write_checkpoint
from ray_trash.model.document import CheckpointDocument
from ray_trash.model.golden import compute_golden
from ray_trash.model.network import build_network
from ray_trash.model.resnet import ResNet
from ray_trash.model.tensors import from_safetensors, to_safetensors

CLASSES = ("cardboard", "glass", "metal", "paper", "plastic", "trash")


def write_model(
    directory: Path, *, seed: int = 0, size_px: int = 32, classes: tuple[str, ...] = CLASSES
) -> CheckpointDocument:
    """Write a checkpoint of random weights; another seed is another model."""
    return write_checkpoint(directory, *_random_model(seed, size_px, classes))


@lru_cache(maxsize=2)
def _random_model(
    seed: int, size_px: int, classes: tuple[str, ...]
) -> tuple[dict[str, torch.Tensor], CheckpointDocument]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(len(classes)).eval()
    preprocessing = Preprocessing(size_px, size_px + 32, "stretch")
    calibration = Calibration(0.9, (0.2,) * len(classes), 0.05, 100)
    document = CheckpointDocument(
        classes=classes,
        hidden_layers=(),
        dropout=0.0,
        frozen_stages=0,
        preprocessing=preprocessing,
        views=1,
        calibration=calibration,
        metrics={},
        data={},
        config={},
        epoch=1,
        created_at="2026-01-01T00:00:00+00:00",
        versions={},
        golden=compute_golden(network, preprocessing, 1, calibration),
    )
    return network.state_dict(), document


@contextmanager
def shallow_resnets() -> Iterator[None]:
    """Build ResNets of one narrow block a stage, whose outputs have the shapes of ResNet50's, at a tenth of the cost.

    On one thread: several that wait for each other on busy cores take a hundred times as long.
    """
    block = import_module(ResNet.__module__).Bottleneck
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network_module, "resnet50", lambda weights: ResNet(block, [1, 1, 1, 1], width_per_group=16))
        yield
    torch.set_num_threads(threads)


def spoil_weights(folder: Path, added: torch.Tensor) -> None:
    """Add something to the last bias and make every checksum right again."""
    weights = from_safetensors((folder / "weights.safetensors").read_bytes(), "weights")
    weights["fc.bias"] += added
    data = to_safetensors(weights)
    (folder / "weights.safetensors").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    document = json.loads((folder / "checkpoint.json").read_text()) | {"id": digest[:12]}
    (folder / "checkpoint.json").write_text(json.dumps(document))
    marker = json.loads((folder / MARKER).read_text())
    for name in ("weights.safetensors", "checkpoint.json"):
        content = (folder / name).read_bytes()
        marker["files"][name] = {"size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / MARKER).write_text(json.dumps(marker))
