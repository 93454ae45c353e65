"""Converted networks that are kept for the next process: what is taken of them, and what is not."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from ray_trash.errors import CheckpointError
from ray_trash.model import predictor as predictors
from ray_trash.model.checkpoint import Checkpoint, open_checkpoint
from ray_trash.model.kept_networks import MOST, KeptNetworks
from ray_trash.model.openvino_network import convert_network
from ray_trash.model.predictor import Predictor, load_network
from tests.models import write_model


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("model")
    write_model(folder)
    return open_checkpoint(folder)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The checkpoints whose network was built in torch."""
    names, build = list[str](), predictors.load_network

    def noted(checkpoint: Checkpoint) -> object:
        names.append(checkpoint.document.id)
        return build(checkpoint)

    monkeypatch.setattr(predictors, "load_network", noted)
    return names


def load(checkpoint: Checkpoint, kept: Path, **given: object) -> Predictor:
    networks = KeptNetworks(kept)
    start = Predictor.check(checkpoint, engine="openvino", device="cpu", precision="fp32", kept=networks, **given)  # type: ignore[arg-type]
    return start()


def said_by(predictor: Predictor) -> np.ndarray:
    return predictor.predict(np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8))


def test_the_next_process_answers_to_the_bit_by_what_the_first_one_kept(
    checkpoint: Checkpoint, built: list[str], tmp_path: Path
) -> None:
    first, second = load(checkpoint, tmp_path / "kept"), load(checkpoint, tmp_path / "kept")
    assert built == [checkpoint.document.id]
    np.testing.assert_array_equal(said_by(second), said_by(first))


def test_over_other_views_it_is_compared_with_torch_again(
    checkpoint: Checkpoint, built: list[str], tmp_path: Path
) -> None:
    load(checkpoint, tmp_path)
    assert load(checkpoint, tmp_path, views=8).views == 8
    assert len(built) == 2


@pytest.mark.parametrize("place", [0, 35, -1])
def test_a_kept_network_that_changed_is_made_anew(
    checkpoint: Checkpoint, built: list[str], tmp_path: Path, place: int
) -> None:
    load(checkpoint, tmp_path)
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    load(checkpoint, tmp_path)
    assert len(built) == 2
    load(checkpoint, tmp_path)
    assert len(built) == 2


def test_one_that_answers_otherwise_than_its_checkpoint_is_refused(checkpoint: Checkpoint, tmp_path: Path) -> None:
    network = load_network(checkpoint)
    network.fc.requires_grad_(False).bias.add_(torch.arange(6.0))
    KeptNetworks(tmp_path).keep(checkpoint, convert_network(network, checkpoint.document.preprocessing))
    with pytest.raises(CheckpointError, match="answered differently"):
        load(checkpoint, tmp_path)


def test_where_nothing_can_be_kept_every_process_makes_its_own(
    checkpoint: Checkpoint, built: list[str], tmp_path: Path
) -> None:
    (tmp_path / "kept").write_bytes(b"a file")
    for _ in range(2):
        said_by(load(checkpoint, tmp_path / "kept"))
    assert len(built) == 2


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("Can't write")])
def test_on_a_full_disk_a_process_answers_by_what_it_converted(
    checkpoint: Checkpoint, tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("ray_trash.model.kept_networks.to_ir", full)
    said_by(load(checkpoint, tmp_path))
    assert not list(tmp_path.iterdir())


def test_only_the_newest_ones_stay_and_nothing_of_a_process_that_was_killed(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "network.bin").write_bytes(b"half of it")
    for number in range(1, MOST):
        (tmp_path / str(number)).write_bytes(b"an older one")
    for number in range(MOST):
        os.utime(tmp_path / str(number), (number, number))
    load(checkpoint, tmp_path)
    names = {file.name for file in tmp_path.iterdir()}
    assert len(names) == MOST
    assert "0" not in names
