"""Checkpoints of untrained networks, for what reads checkpoints; networks that cost little, for what trains them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from ray_trash.image.preprocess import Preprocessing
from ray_trash.model import network
from ray_trash.model.calibration import Calibration
from ray_trash.model.checkpoint import MARKER, Quantized, open_checkpoint, write_checkpoint
from ray_trash.model.document import CheckpointDocument, FloatNetwork
from ray_trash.model.golden import compute_golden
from ray_trash.model.openvino_network import convert_network, to_ir
from ray_trash.model.predictor import load_network
from ray_trash.model.tensors import from_safetensors, to_safetensors

CLASSES = ("cardboard", "glass", "metal", "paper", "plastic", "trash")


def write_model(
    directory: Path, *, seed: int = 0, size_px: int = 32, classes: tuple[str, ...] = CLASSES
) -> CheckpointDocument:
    """Write a checkpoint of random weights; another seed is another model."""
    # Unit tests exchange the ResNet: a model of another one is another model.
    folder, document = _random_model(seed, size_px, classes, vars(network)["resnet50"])
    shutil.copytree(folder.name, directory, dirs_exist_ok=True)
    return document


@lru_cache(maxsize=4)
def _random_model(
    seed: int, size_px: int, classes: tuple[str, ...], resnet: object
) -> tuple[tempfile.TemporaryDirectory[str], CheckpointDocument]:
    # Written once: hashing and packing its 94 MB takes longer than a copy, and making up its numbers longer still.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        built = network.build_network(len(classes)).eval()
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
        golden=compute_golden(built, preprocessing, 1, calibration),
    )
    folder = tempfile.TemporaryDirectory()
    return folder, write_checkpoint(Path(folder.name), built.state_dict(), document)


INT8_REPORT = {
    "quantized_from": "0123456789ab",
    "range_photos": 16,
    "threads": 2,
    "n": 328,
    "agree": 320,
    "float": {
        "engine": "openvino float32 on cpu",
        "correct": 300,
        "accuracy": 300 / 328,
        "accuracy_ci95": [0.88, 0.94],
        "photos_per_s": 20.0,
    },
    "int8": {
        "engine": "openvino int8 on cpu",
        "correct": 299,
        "accuracy": 299 / 328,
        "accuracy_ci95": [0.87, 0.94],
        "photos_per_s": 40.0,
    },
    "difference": -1 / 328,
    "difference_ci95": [-0.012, 0.006],
    "p_value": 1.0,
    "significant": False,
    "only_float_right": 2,
    "only_int8_right": 1,
    "largest_change": 0.04,
    "warnings": [],
}


def write_int8_model(directory: Path, origin: Path) -> CheckpointDocument:
    """Write a checkpoint that counts as int8, in no time and without NNCF: its second network is the float one too."""
    opened = open_checkpoint(origin)
    document = opened.document
    ir = to_ir(convert_network(load_network(opened), document.preprocessing))
    calibration = dataclasses.replace(document.calibration, temperature=1.25)
    undone = document.calibration.undo(np.array([document.golden.probabilities]))
    golden = dataclasses.replace(document.golden, probabilities=tuple(calibration.apply(undone)[0].tolist()))
    network = FloatNetwork(document.id, document.calibration, document.golden)
    int8 = dataclasses.replace(document, calibration=calibration, golden=golden, float_network=network)
    return write_checkpoint(directory, opened.weights(), int8, quantized=Quantized(ir, INT8_REPORT))


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
