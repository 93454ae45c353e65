"""A checkpoint with an int8 network answers by it, says so, and never by another one that was not asked for."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ray_trash.errors import CheckpointError, ConfigError
from ray_trash.image.symmetry import symmetric_views
from ray_trash.model.checkpoint import MARKER, Quantized, open_checkpoint, write_checkpoint
from ray_trash.model.engine import plan_int8_engine
from ray_trash.model.export import export_checkpoint
from ray_trash.model.golden import answer_golden
from ray_trash.model.openvino_network import import_openvino
from ray_trash.model.precision import resolve_precision
from ray_trash.model.predictor import Predictor
from tests.models import INT8_REPORT, write_int8_model


@pytest.fixture(scope="module")
def photos() -> np.ndarray:
    """Blocks of colour at several scales, without symmetry: (16, 32, 32, 3) uint8."""
    random = np.random.default_rng(0)
    made = [random.integers(0, 256, (2 ** (n % 4 + 1),) * 2 + (3,), np.uint8) for n in range(16)]
    return np.stack([blocks.repeat(32 // len(blocks), 0).repeat(32 // len(blocks), 1) for blocks in made])


@pytest.fixture(scope="module")
def directory(trained, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("int8")
    write_int8_model(folder, trained.directory)
    return folder


@pytest.fixture
def copied(directory, tmp_path) -> Path:
    return Path(shutil.copytree(directory, tmp_path / "copied"))


def seal(folder: Path) -> None:
    marker = json.loads((folder / MARKER).read_text())
    for name in marker["files"]:
        data = (folder / name).read_bytes()
        marker["files"][name] = {"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / MARKER).write_text(json.dumps(marker))


def test_it_answers_by_its_int8_network_and_says_so(directory, trained, photos):
    int8, exact = Predictor.load(directory, engine="auto", device="cpu"), Predictor.load(trained.directory)
    assert int8.plan.name == "openvino int8 on cpu"
    assert int8.document.calibration.temperature == 1.25
    ours, theirs = (one.document.calibration.undo(one.predict(photos)) for one in (int8, exact))
    # What is not int8 in it is computed in bf16 where the processor does that: here, all of it.
    dtype, _ = resolve_precision("auto", torch.device("cpu"))
    np.testing.assert_allclose(ours, theirs, atol=0.03 if dtype == torch.bfloat16 else 1e-4)


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_its_float_network_answers_where_its_precision_is_asked_for_as_the_checkpoint_it_came_from(
    directory, trained, photos, engine
):
    asked, origin = (
        Predictor.load(place, engine=engine, device="cpu", precision="fp32") for place in (directory, trained.directory)
    )
    assert asked.plan.name == f"{engine} float32 on cpu"
    assert asked.document.calibration == origin.document.calibration
    np.testing.assert_array_equal(asked.predict(photos), origin.predict(photos))


def test_what_does_not_compute_int8_is_refused_with_what_to_do(directory, monkeypatch):
    with pytest.raises(ConfigError, match=r"int8 network, which OpenVINO alone .*serve\.precision=fp32"):
        Predictor.load(directory, engine="torch", device="cpu")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r"int8 network, for which .*pip install openvino, or .*serve\.precision=fp32"
    ):
        Predictor.load(directory, engine="auto", device="cpu")


def test_a_gpu_does_not_compute_int8(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.current_device", lambda: 0)
    for device in ("auto", "cuda"):
        with pytest.raises(ConfigError, match=r"has a GPU; set serve\.device=cpu, or .*serve\.precision=fp32"):
            plan_int8_engine("auto", device, "here")


def test_over_other_views_than_its_own_it_answers_by_their_mean(directory, photos):
    one, eight = (Predictor.load(directory, engine="auto", device="cpu", views=views) for views in (1, 8))
    assert (one.views, eight.views) == (1, 8)
    undo = one.document.calibration.undo
    views = np.stack([np.ascontiguousarray(view) for view in symmetric_views(photos[3])])
    np.testing.assert_allclose(undo(eight.predict(photos[3:4]))[0], undo(one.predict(views)).mean(axis=0), atol=1e-5)


def test_one_that_answers_otherwise_than_when_it_was_written_is_refused(copied):
    opened = open_checkpoint(copied)
    golden = dataclasses.replace(opened.document.golden, probabilities=(1.0, 0.0, 0.0))
    document = dataclasses.replace(opened.document, golden=golden)
    write_checkpoint(copied, opened.weights(), document, quantized=opened.quantized)
    with pytest.raises(CheckpointError, match=r"answered differently .* in openvino int8 on cpu"):
        Predictor.load(copied, engine="auto", device="cpu")


def test_another_int8_network_is_another_model(copied):
    opened = open_checkpoint(copied)
    assert opened.quantized is not None
    xml, numbers = opened.quantized.ir
    other = Quantized((xml + b"\n", numbers), INT8_REPORT)
    assert write_checkpoint(copied, opened.weights(), opened.document, quantized=other).id != opened.document.id


@pytest.mark.parametrize("name", ["int8.xml", "int8.bin", "quantized.json"])
def test_a_changed_file_is_refused_even_if_the_marker_was_changed_with_it(copied, name):
    (copied / name).write_bytes((copied / name).read_bytes()[:-1] + b"~")
    with pytest.raises(CheckpointError, match=rf"{name}: changed"):
        open_checkpoint(copied)
    seal(copied)
    with pytest.raises(CheckpointError, match=r"belongs to the model|not valid JSON"):
        open_checkpoint(copied)


def test_a_network_that_openvino_does_not_read_is_refused(copied):
    opened = open_checkpoint(copied)
    write_checkpoint(copied, opened.weights(), opened.document, quantized=Quantized((b"<net/>", b""), INT8_REPORT))
    with pytest.raises(CheckpointError, match="does not read its int8 network"):
        Predictor.load(copied, engine="auto", device="cpu")


def test_code_that_knows_no_int8_refuses_it_by_the_version_of_both_its_files(copied):
    for name in ("checkpoint.json", MARKER):
        path = copied / name
        assert json.loads(path.read_text())["format_version"] == 3
        path.write_text(path.read_text().replace('"format_version": 3', '"format_version": 2'))
        if name != MARKER:
            seal(copied)
        with pytest.raises(CheckpointError, match="version"):
            open_checkpoint(copied)


def test_a_float_checkpoint_written_in_its_place_leaves_nothing_of_it(copied):
    opened = open_checkpoint(copied)
    document = dataclasses.replace(opened.document.by_float(), float_network=None)
    with pytest.raises(ValueError, match="float_network"):
        write_checkpoint(copied, opened.weights(), opened.document)
    write_checkpoint(copied, opened.weights(), document)
    assert {path.name for path in copied.iterdir()} == {
        "weights.safetensors",
        "checkpoint.json",
        "model_card.md",
        MARKER,
    }


def test_its_card_says_how_it_was_compared(directory):
    card = open_checkpoint(directory).card
    assert "ResNet50 in int8" in card
    assert "299/328 = 91.2 % of validation right" in card
    assert 'Predictor.load("CHECKPOINT", engine="auto")' in card
    (directory / "model_card.md").unlink()
    assert open_checkpoint(directory).card == card


@pytest.mark.parametrize(("precision", "views"), [("fp32", 8), ("bf16", 1), ("int8", 8), (None, 1)])
def test_openvino_s_files_answer_any_number_of_photos_as_the_checkpoint_does(
    directory, trained, photos, tmp_path, precision, views
):
    checkpoint = directory
    if views == 8:
        opened = open_checkpoint(trained.directory)
        eight = Predictor.load(trained.directory, device="cpu", precision="fp32", views=8)
        golden = answer_golden(eight.predict, opened.document.golden, opened.document.preprocessing)
        document = dataclasses.replace(opened.document, views=8, golden=golden)
        write_checkpoint(tmp_path / "origin", opened.weights(), document)
        checkpoint = tmp_path / "eight"
        write_int8_model(checkpoint, tmp_path / "origin")
    said = export_checkpoint(str(checkpoint), "openvino", precision=precision, out=str(tmp_path / "model.xml"))
    by_int8 = precision in ("int8", None)
    assert said["precision"] == (precision or "int8")
    assert said["size_bytes"] == sum((tmp_path / name).stat().st_size for name in ("model.xml", "model.bin"))
    asked: dict[str, Any] = {"engine": "auto"} if by_int8 else {"precision": "fp32"}
    predictor = Predictor.load(checkpoint, device="cpu", **asked)
    openvino = import_openvino()
    model = openvino.Core().read_model(tmp_path / "model.xml")
    assert model.get_rt_info(["ray_trash", "model_id"]).astype(str) == predictor.document.id
    answer = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    for n in (1, 3):
        tolerance = 0.02 if precision == "bf16" else 1e-4
        np.testing.assert_allclose(answer(photos[:n])[0], predictor.predict(photos[:n]), atol=tolerance)


def test_an_export_says_what_precision_it_can_be_written_in(directory, trained, tmp_path):
    with pytest.raises(ConfigError, match=r"--format onnx: is written in fp32 alone, .* add --precision fp32"):
        export_checkpoint(str(directory), "onnx", out=str(tmp_path / "model.onnx"))
    with pytest.raises(ConfigError, match=r"--precision int8: .* has no int8 network; `ray-trash quantize` makes one"):
        export_checkpoint(str(trained.directory), "openvino", precision="int8", out=str(tmp_path / "model.xml"))
    with pytest.raises(ConfigError, match=r"name it \*\.xml"):
        export_checkpoint(str(directory), "openvino", out=str(tmp_path / "model"))
    assert not list(tmp_path.iterdir())
