from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from typing import Literal

import numpy as np
import pytest
import torch

from ray_trash.errors import CheckpointError, DivergedError, ImageError
from ray_trash.image.preprocess import Preprocessing, fit_photo, load_photo
from ray_trash.image.tensor import normalise
from ray_trash.model.calibration import Calibration
from ray_trash.model.checkpoint import MARKER
from ray_trash.model.engine import EnginePlan
from ray_trash.model.golden import compute_golden, require_golden
from ray_trash.model.network import build_network, evaluation_mode
from ray_trash.model.predictor import Predictor
from ray_trash.model.torch_engine import TorchEngine

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def predictor(trained) -> Predictor:
    return Predictor.load(trained.directory, device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def photos() -> np.ndarray:
    """Photos a fresh network tells apart: even colours, and blocks that have no symmetry."""
    plain = np.zeros((3, 32, 32, 3), np.uint8)
    plain[1] = (250, 20, 20)
    plain[2] = (20, 250, 250)
    blocks = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), np.uint8)
    return np.concatenate([plain, blocks.repeat(8, axis=1).repeat(8, axis=2)])


def other(trained, predictor: Predictor, *, views: Literal[1, 8] = 1, dtype: torch.dtype = torch.float32) -> Predictor:
    document = dataclasses.replace(predictor.document, views=views)
    engine = TorchEngine(trained.network.eval(), document.preprocessing, views=views, device=CPU, dtype=dtype)
    return Predictor(engine, document, EnginePlan("torch", CPU, dtype, ""))


def test_probabilities_are_rows_that_add_up_to_one(predictor, photos):
    answer = predictor.predict(photos)
    assert answer.dtype == np.float32
    assert answer.shape == (6, 3)
    assert np.abs(answer.sum(axis=1, dtype=np.float64) - 1).max() < 1e-6
    assert np.ptp(answer, axis=0).max() > 0.05  # the photos are told apart, or the tests here show nothing


def test_predictor_says_what_the_trained_network_says(predictor, trained, photos):
    images = normalise(torch.from_numpy(photos), trained.document.preprocessing)
    with evaluation_mode(trained.network), torch.no_grad():
        said = torch.softmax(trained.network(images), dim=1).numpy()
    expected = trained.document.calibration.apply(said)
    np.testing.assert_allclose(predictor.predict(photos), expected, atol=1e-5)


def test_a_photo_is_answered_alike_alone_and_in_a_batch(predictor, photos):
    alone = np.concatenate([predictor.predict(photo[np.newaxis]) for photo in photos])
    np.testing.assert_allclose(predictor.predict(photos), alone, atol=1e-4)


def test_no_photos_give_no_rows(predictor, photos):
    assert predictor.predict(photos[:0]).shape == (0, 3)


def test_photos_of_another_form_are_refused(predictor, photos):
    for wrong in (photos[0], photos[:, :16], photos.astype(np.float32)):
        with pytest.raises(ValueError, match=r"expected \(B, 32, 32, 3\) uint8"):
            predictor.predict(wrong)


def test_the_mean_over_views_does_not_depend_on_how_the_photo_lies(trained, predictor, photos):
    turned = np.ascontiguousarray(np.rot90(photos, axes=(1, 2))[:, ::-1])
    eight = other(trained, predictor, views=8)
    np.testing.assert_allclose(eight.predict(turned), eight.predict(photos), atol=1e-4)
    assert np.abs(predictor.predict(turned) - predictor.predict(photos)).max() > 1e-3


def test_over_other_views_than_its_own_a_checkpoint_answers_by_their_mean_with_its_own_calibration(
    trained, predictor, photos
):
    eight = Predictor.load(trained.directory, device="cpu", precision="fp32", views=8)
    assert (predictor.views, eight.views) == (1, 8)
    assert eight.document == predictor.document
    expected = other(trained, predictor, views=8).predict(photos)
    np.testing.assert_allclose(eight.predict(photos), expected, atol=1e-5)
    assert np.abs(expected - predictor.predict(photos)).max() > 1e-3


def test_bf16_is_near_fp32(trained, predictor, photos):
    fp32, bf16 = predictor.predict(photos), other(trained, predictor, dtype=torch.bfloat16).predict(photos)
    assert 0 < np.abs(bf16 - fp32).max() < 0.1
    assert np.abs(bf16.sum(axis=1, dtype=np.float64) - 1).max() < 1e-6


def test_the_callers_autocast_changes_nothing(predictor, photos):
    expected = predictor.predict(photos)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert np.array_equal(predictor.predict(photos), expected)


def test_prepare_is_the_preprocessing_of_the_checkpoint(predictor, encoded_photo):
    preprocessing = predictor.document.preprocessing
    expected = fit_photo(load_photo(encoded_photo, preprocessing), preprocessing)
    assert np.array_equal(predictor.prepare(encoded_photo), expected)
    with pytest.raises(ImageError):
        predictor.prepare(encoded_photo[:50])


def test_loading_draws_no_random_numbers(trained):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    Predictor.load(trained.directory, device="cpu", precision="fp32")
    assert torch.equal(torch.rand(3), expected)


def copy_with_golden(trained, directory, probabilities) -> None:
    """Copy a checkpoint, the weights by a link, with another golden answer."""
    directory.mkdir()
    os.link(trained.directory / "weights.safetensors", directory / "weights.safetensors")
    tree = json.loads((trained.directory / "checkpoint.json").read_text())
    tree["golden"]["probabilities"] = probabilities
    (directory / "checkpoint.json").write_text(text := json.dumps(tree))
    marker = json.loads((trained.directory / MARKER).read_text())
    digest = hashlib.sha256(text.encode()).hexdigest()
    marker["files"]["checkpoint.json"] = {"size_bytes": len(text), "sha256": digest}
    (directory / MARKER).write_text(json.dumps(marker))


def test_a_checkpoint_that_answers_differently_is_refused(trained, tmp_path):
    right = list(trained.document.golden.probabilities)
    most = right.index(max(right))
    moved = [p - 0.002 if i == most else p + 0.001 for i, p in enumerate(right)]
    copy_with_golden(trained, tmp_path / "moved", moved)
    with pytest.raises(CheckpointError, match="answered differently"):
        Predictor.load(tmp_path / "moved", device="cpu", precision="fp32")


def test_golden_photo_tells_apart_what_must_not_change(trained):
    document = trained.document
    network = trained.network
    swapped = dataclasses.replace(document.preprocessing, mean=document.preprocessing.mean[::-1])
    cropped = dataclasses.replace(document.preprocessing, fit="crop")
    hotter = dataclasses.replace(document.calibration, temperature=1.0)

    def require(preprocessing: Preprocessing, calibration: Calibration) -> None:
        engine = TorchEngine(network, preprocessing, views=1, device=CPU, dtype=torch.float32)

        def answer(squares: np.ndarray) -> np.ndarray:
            return calibration.apply(engine.probabilities(squares))

        require_golden(answer, document.golden, preprocessing, tolerance=1e-3, by="torch", where="here")

    with evaluation_mode(network):
        require(document.preprocessing, document.calibration)
        for changed in (
            (swapped, document.calibration),
            (cropped, document.calibration),
            (document.preprocessing, hotter),
        ):
            with pytest.raises(CheckpointError, match=r"^here: the golden photo"):
                require(*changed)


def test_golden_photo_that_is_no_base64_is_refused(trained):
    golden = dataclasses.replace(trained.document.golden, png_base64="?")
    with pytest.raises(CheckpointError, match="not base64"):
        require_golden(
            lambda squares: np.zeros((1, 3), np.float32),
            golden,
            trained.document.preprocessing,
            tolerance=1.0,
            by="nobody",
            where="here",
        )


def test_computing_the_golden_answer_leaves_the_network_as_it_was(trained):
    network = trained.network.train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        golden = compute_golden(network, trained.document.preprocessing, 1, trained.document.calibration)
    assert golden == trained.document.golden
    assert all(module.training for module in network.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_a_network_that_answers_nan_gets_no_golden_answer(trained):
    network = build_network(3)
    with torch.no_grad():
        network.fc.bias[0] = torch.nan
    with pytest.raises(DivergedError, match="not finite"):
        compute_golden(network, trained.document.preprocessing, 1, trained.document.calibration)


@pytest.mark.gpu
def test_gpu_answers_as_the_cpu_does(trained, predictor, photos):
    expected = predictor.predict(photos)
    fp32 = Predictor.load(trained.directory, device="cuda", precision="fp32")
    np.testing.assert_allclose(fp32.predict(photos), expected, atol=5e-3)
    bf16 = Predictor.load(trained.directory, device="cuda", precision="bf16")
    np.testing.assert_allclose(bf16.predict(photos), expected, atol=0.1)
