"""From a checkpoint and photos of its sides to an int8 checkpoint, or to nothing."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from torch import nn

from ray_trash.cli import main
from ray_trash.dataset.read import PhotoFolder
from ray_trash.errors import CheckpointError, ConfigError
from ray_trash.model.checkpoint import Checkpoint, open_checkpoint, write_checkpoint
from ray_trash.model.golden import compute_golden
from ray_trash.model.predictor import Predictor, load_network
from ray_trash.quantize.photos import SidedPhotos
from ray_trash.quantize.run import quantize_checkpoint, require_quantizable
from ray_trash.storage import Storage
from ray_trash.terminal.say import Terminal
from tests.models import write_model

N_PHOTOS = 48


@pytest.fixture(scope="module")
def origin(tmp_path_factory) -> Checkpoint:
    """A checkpoint whose network tells photos apart: its statistics are those of made-up photos."""
    folder = tmp_path_factory.mktemp("origin") / "checkpoint"
    write_model(folder)
    opened = open_checkpoint(folder)
    network = load_network(opened)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    torch.manual_seed(0)
    blocks = torch.rand(32, 3, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3) * 4 - 2
    with torch.no_grad():
        network.train()(blocks)
        logits = network.eval()(blocks)
        network.fc.weight *= 3 / logits.std(dim=0)[:, None]
        network.fc.bias.copy_((network.fc.bias - logits.mean(dim=0)) * 3 / logits.std(dim=0))
    return rewritten(folder, network, config={"serve": {"precision": "bf16", "device": "auto", "timeout_s": 7.0}})


def rewritten(folder: Path, network: nn.Module, **changes) -> Checkpoint:
    document = dataclasses.replace(open_checkpoint(folder).document, **changes)
    golden = compute_golden(network, document.preprocessing, 1, document.calibration)
    write_checkpoint(folder, network.state_dict(), dataclasses.replace(document, golden=golden))
    return open_checkpoint(folder)


@pytest.fixture(scope="module")
def photos(origin, tmp_path_factory) -> SidedPhotos:
    """Blocks of colour of which the float network is sure, each of the class that it says: it is always right."""
    root = tmp_path_factory.mktemp("photos")
    made = np.random.default_rng(0).integers(0, 256, (8 * N_PHOTOS, 4, 4, 3), np.uint8)
    predictor = Predictor.load(origin, device="cpu", precision="fp32")
    said = predictor.predict(made.repeat(8, 1).repeat(8, 2))
    surest, rows = np.argsort(-said.max(axis=1))[:N_PHOTOS], []
    for number in surest:
        path = root / f"{number:03d}.png"
        Image.fromarray(made[number].repeat(16, 0).repeat(16, 1)).save(path)
        rows.append({"path": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()})
    table, folder = pa.Table.from_pylist(rows), PhotoFolder.at(str(root))
    photos = SidedPhotos(folder, origin.document.preprocessing, table.slice(0, 16), table, np.zeros(0, np.int64))
    labels = predictor.predict(np.concatenate(list(photos.squares(table)))).argmax(axis=1)
    return dataclasses.replace(photos, labels=labels)


@pytest.fixture(scope="module")
def quantized(origin, photos, tmp_path_factory) -> tuple[dict, Checkpoint]:
    pytest.importorskip("nncf", reason="NNCF is in the extra int8")
    out = tmp_path_factory.mktemp("quantized") / "checkpoint"
    said = quantize_checkpoint(origin, photos, Storage.at(out), max_loss_points=100.0, terminal=Terminal.silent())
    return said, open_checkpoint(out)


def test_it_has_what_the_other_has_and_an_int8_network_with_a_calibration_and_a_golden_answer_of_its_own(
    origin, quantized
):
    said, made = quantized
    assert made.document.id == said["id"] != origin.document.id
    assert made.weights().keys() == origin.weights().keys()
    assert made.document.float_network.id == origin.document.id == said["quantized_from"]
    assert made.document.float_network.calibration == origin.document.calibration
    assert made.document.float_network.golden == origin.document.golden
    assert made.document.calibration.n == N_PHOTOS
    assert made.document.golden.png_base64 == origin.document.golden.png_base64
    assert made.document.golden.probabilities != origin.document.golden.probabilities
    assert made.quantized.report.items() <= said.items()
    assert {"openvino", "nncf"} <= made.document.versions.keys()
    assert Predictor.load(made, engine="auto", device="cpu").plan.name == "openvino int8 on cpu"


def test_what_the_config_said_of_the_float_network_s_engine_is_not_asked_of_the_int8_one(quantized):
    serve = quantized[1].document.config["serve"]
    assert serve == {"precision": "auto", "device": "cpu", "engine": "auto", "timeout_s": 7.0}


def test_its_report_compares_the_two_on_every_photo_of_validation(quantized):
    said, _ = quantized
    assert (said["n"], said["float"]["correct"], said["range_photos"]) == (N_PHOTOS, N_PHOTOS, 16)
    assert said["int8"]["correct"] == N_PHOTOS - said["only_float_right"]
    assert said["float"]["photos_per_s"] > 0
    assert said["int8"]["engine"] == "openvino int8 on cpu"
    assert 0 < said["largest_change"] < 1


def test_a_network_that_int8_spoils_is_refused_and_nothing_is_left(origin, photos, tmp_path):
    pytest.importorskip("nncf", reason="NNCF is in the extra int8")
    network = load_network(origin)
    with torch.no_grad():
        # The same function in float: some channels are a hundred thousand times larger, and what reads them undoes it.
        for layer in (network.layer1, network.layer2, network.layer3, network.layer4):
            for block in layer:
                for norm, reader in ((block.bn1, block.conv2), (block.bn2, block.conv3)):
                    channel = int(norm.weight.abs().argmax())
                    for scaled in (norm.weight, norm.bias):
                        scaled[channel] *= 1e5
                    reader.weight[:, channel] /= 1e5
    write_checkpoint(tmp_path / "wild", origin.weights(), origin.document)
    wild = rewritten(tmp_path / "wild", network)
    out = Storage.at(tmp_path / "out")
    with pytest.raises(CheckpointError, match=r"int8 is refused: it is significantly worse .* nothing was written"):
        quantize_checkpoint(wild, photos, out, max_loss_points=100.0, terminal=Terminal.silent())
    assert not out.exists()


def test_a_place_that_is_taken_and_a_checkpoint_that_is_int8_are_refused_before_anything_is_read(
    origin, quantized, tmp_path
):
    _, made = quantized
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(ConfigError, match=r"is there already; .* --overwrite"):
        require_quantizable(origin, Storage.at(tmp_path), overwrite=False)
    require_quantizable(origin, Storage.at(tmp_path), overwrite=True)
    with pytest.raises(ConfigError, match="one that is not CHECKPOINT"):
        require_quantizable(origin, Storage.at(origin.uri), overwrite=True)
    with pytest.raises(CheckpointError, match="has an int8 network already"):
        require_quantizable(made, Storage.at(tmp_path / "new"), overwrite=False)


def test_without_its_packages_the_command_that_installs_them_is_named(origin, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"openvino and nncf is not installed; pip install 'ray-trash\[int8\]'"):
        require_quantizable(origin, Storage.at(tmp_path / "new"), overwrite=False)


def test_the_command_says_what_is_wrong_before_it_starts_anything(origin, tmp_path, capsys):
    pytest.importorskip("nncf", reason="NNCF is in the extra int8")
    arguments = ["quantize", origin.uri, "--data", str(tmp_path / "none"), "--out", origin.uri]
    assert main(arguments) == 2
    assert "is there already; give another --out" in capsys.readouterr().err
    assert main([*arguments, "--max-loss", "-1"]) == 2
    assert "--max-loss: -1: must be 0 to 100" in capsys.readouterr().err
