"""An exported file answers as its checkpoint does: a whole ResNet50, which takes the exporters a while."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ray_trash.model import export
from ray_trash.model.checkpoint import open_checkpoint, write_checkpoint
from ray_trash.model.export import PARITY_TOLERANCE, export_checkpoint
from ray_trash.model.golden import compute_golden
from ray_trash.model.predictor import Predictor, load_network
from tests.models import write_model


@dataclasses.dataclass(frozen=True)
class Exported:
    """A file, what was said about it, what it knows, how it is asked, and the predictor of its checkpoint."""

    file: Path
    said: dict[str, Any]
    known: dict[str, str]
    answer: Callable[[np.ndarray], np.ndarray]
    predictor: Predictor


@pytest.fixture(scope="module")
def photos() -> np.ndarray:
    """Blocks of colour without symmetry: (7, 32, 32, 3) uint8."""
    return np.random.default_rng(0).integers(0, 256, (7, 4, 4, 3), np.uint8).repeat(8, axis=1).repeat(8, axis=2)


@pytest.fixture(scope="module", params=["onnx with 1 view", "torch with 8 views"])
def exported(tmp_path_factory, request) -> Exported:
    folder = tmp_path_factory.mktemp("exported")
    checkpoint = folder / "checkpoint"
    write_model(checkpoint)
    if request.param == "torch with 8 views":
        one_view, file = open_checkpoint(checkpoint), folder / "model.pt2"
        document, network = one_view.document, load_network(one_view)
        golden = compute_golden(network, document.preprocessing, 8, document.calibration)
        write_checkpoint(checkpoint, network.state_dict(), dataclasses.replace(document, views=8, golden=golden))
        said = export_checkpoint(str(checkpoint), "torch", out=str(file))
        known = dict.fromkeys(("classes", "model_id", "preprocessing", "thresholds"), "")
        program = torch.export.load(io.BytesIO(file.read_bytes()), extra_files=known).module()
        answer = lambda photos: program(torch.from_numpy(photos)).numpy()  # noqa: E731
    else:
        onnxruntime = pytest.importorskip("onnxruntime")
        file = folder / "model.onnx"
        said = export_checkpoint(str(checkpoint), "onnx", out=str(file))
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        known = session.get_modelmeta().custom_metadata_map
        answer = lambda photos: session.run(["probabilities"], {"photos": photos})[0]  # noqa: E731
    predictor = Predictor.load(checkpoint, engine="torch", device="cpu", precision="fp32")
    return Exported(file, said, known, answer, predictor)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_an_exported_file_answers_any_number_of_photos_as_the_checkpoint_does(exported, photos, n):
    answered, expected = exported.answer(photos[:n]), exported.predictor.predict(photos[:n])
    assert answered.dtype == np.float32
    np.testing.assert_allclose(answered, expected, atol=PARITY_TOLERANCE)
    np.testing.assert_allclose(answered.sum(axis=1), 1, atol=1e-6)


def test_the_file_knows_what_its_answers_mean(exported):
    document = exported.predictor.document
    assert exported.known["model_id"] == document.id
    assert tuple(json.loads(exported.known["classes"])) == document.classes
    assert json.loads(exported.known["preprocessing"]) == document.preprocessing.to_json()
    assert tuple(json.loads(exported.known["thresholds"])) == document.calibration.thresholds


def test_what_was_exported_is_said(exported):
    assert exported.said["file"] == str(exported.file)
    assert exported.said["size_bytes"] == exported.file.stat().st_size
    assert exported.said["model_id"] == exported.predictor.document.id
    assert 0 <= exported.said["max_difference"] <= PARITY_TOLERANCE


def test_the_file_holds_no_path_of_the_machine_that_wrote_it(exported):
    assert str(Path(export.__file__).parent).encode() not in exported.file.read_bytes()
