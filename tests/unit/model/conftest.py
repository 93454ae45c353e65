from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from ray_trash.image.preprocess import Preprocessing
from ray_trash.model.calibration import Calibration
from ray_trash.model.checkpoint import write_checkpoint
from ray_trash.model.document import CheckpointDocument, Golden
from ray_trash.model.golden import compute_golden
from ray_trash.model.network import build_network
from ray_trash.model.resnet import ResNet

CLASSES = ("paper", "glass", "metal")


class TinyNetwork(nn.Module):
    """The parts that matter to a table of weights: a convolution, a batch norm, a head called `fc`."""

    def __init__(self, n_classes: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3)
        self.bn1 = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, n_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.bn1(self.conv1(images)).relu().mean((2, 3)))


@pytest.fixture
def tiny_network() -> TinyNetwork:
    torch.manual_seed(1)
    return TinyNetwork()


@pytest.fixture
def tiny_state() -> dict[str, torch.Tensor]:
    torch.manual_seed(2)
    state = TinyNetwork().state_dict()
    state["bn1.num_batches_tracked"] += 7
    return dict(state)


def _make_document(**changes) -> CheckpointDocument:
    fields = {
        "classes": CLASSES,
        "hidden_layers": (8,),
        "dropout": 0.5,
        "frozen_stages": 2,
        "preprocessing": Preprocessing(32, 64, "crop"),
        "views": 1,
        "calibration": Calibration.none(len(CLASSES)),
        "metrics": {"val_macro_f1": 0.1 + 0.2, "val_loss": None},
        "data": {"fingerprint": "abc", "n": {"train": 9}},
        "config": {"seed": 3},
        "epoch": 4,
        "created_at": "2026-01-02T03:04:05+00:00",
        "versions": {"torch": torch.__version__},
        "golden": Golden("AAAA", (0.25, 0.25, 0.5)),
    }
    return CheckpointDocument(**{**fields, **changes})


@pytest.fixture
def make_document():
    return _make_document


@pytest.fixture
def document() -> CheckpointDocument:
    return _make_document()


@pytest.fixture(scope="package")
def encoded_photo() -> bytes:
    pixels = np.random.default_rng(1).integers(0, 256, (9, 12, 3), np.uint8).repeat(10, 0).repeat(10, 1)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG")
    return buffer.getvalue()


@dataclass(frozen=True)
class Trained:
    """A ResNet50 and the checkpoint that was written of it; neither is changed by a test."""

    network: ResNet
    directory: Path
    document: CheckpointDocument


@pytest.fixture(scope="package")
def trained(shallow_resnet, tmp_path_factory) -> Trained:
    torch.manual_seed(0)
    network = build_network(len(CLASSES), hidden_layers=(8,), dropout=0.5)
    with torch.no_grad():
        # A fresh network says the same of every photo: its statistics are made up.
        norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        for norm in norms:
            norm.momentum = 1.0
        network(torch.rand(16, 3, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3) * 4 - 2)
    directory = tmp_path_factory.mktemp("trained")
    preprocessing = Preprocessing(32, 64, "stretch")
    calibration = Calibration(0.8, (0.2, 0.5, 0.4), 0.05, 40)
    golden = compute_golden(network, preprocessing, 1, calibration)
    document = _make_document(preprocessing=preprocessing, golden=golden, calibration=calibration)
    return Trained(network, directory, write_checkpoint(directory, network.state_dict(), document))
