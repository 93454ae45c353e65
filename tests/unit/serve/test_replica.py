"""A replica that cannot compute says so, and is replaced."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from ray_trash.config import ServeConfig
from ray_trash.errors import CheckpointError
from ray_trash.model.checkpoint import open_checkpoint
from ray_trash.model.predictor import Predictor
from ray_trash.serve.replica import Replica
from tests.models import spoil_weights, write_model

# Of Ray Serve's own configuration, when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
SETTINGS = ServeConfig(engine="torch", device="cpu", precision="fp32").model_dump()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_model(folder)
    return folder


@pytest.fixture(scope="module")
def good(model: Path) -> Predictor:
    return Predictor.load(model, device="cpu", precision="fp32")


class Broken:
    def probabilities(self, photos: np.ndarray) -> np.ndarray:
        raise RuntimeError("the device is gone")


def test_a_replica_whose_engine_fails_is_ill_until_it_computes_again(
    model: Path, good: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Predictor, "load", lambda *_, **__: good)
    broken = Predictor(Broken(), good.document, good.plan)
    squares = np.zeros((1, 32, 32, 3), np.uint8)

    async def run() -> None:
        replica = Replica(open_checkpoint(model), SETTINGS, 1)
        await replica.check_health()
        with pytest.raises(RuntimeError, match="the device is gone"):
            await replica.compute(broken, squares)
        with pytest.raises(RuntimeError, match="the device is gone"):
            await replica.check_health()
        assert len(await replica.compute(good, squares)) == 1
        await replica.check_health()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("added", "says"),
    [(torch.arange(6.0), "answered differently"), (torch.full((6,), float("nan")), "not finite")],
    ids=["others", "nan"],
)
def test_a_replica_whose_model_answers_otherwise_says_so_and_is_ill_once_it_is_asked(
    added: torch.Tensor, says: str, model: Path, tmp_path: Path
) -> None:
    spoilt = shutil.copytree(model, tmp_path / "spoilt")
    spoil_weights(spoilt, added)

    async def run() -> None:
        replica = Replica(open_checkpoint(spoilt), SETTINGS, 1)
        with pytest.raises(CheckpointError, match=says):
            (await replica.card()).value()
        await replica.check_health()
        with pytest.raises(RuntimeError, match="no model"):
            await replica.answer([b"x"])
        with pytest.raises(RuntimeError, match="no model"):
            await replica.check_health()

    asyncio.run(run())
