"""A replica that cannot compute says so, and is replaced."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import ray.serve
import torch
from PIL import Image

from ray_trash.config import ServeConfig
from ray_trash.errors import CheckpointError, ConfigError
from ray_trash.image.heat import heat_over
from ray_trash.model.checkpoint import open_checkpoint
from ray_trash.model.explainer import Explainer
from ray_trash.model.openvino_network import convert_network
from ray_trash.model.predictor import Predictor
from ray_trash.serve.contract import ModelCard
from ray_trash.serve.replica import Replica, SharedReplica
from tests.encoded import encode, jpeg, smooth_photo
from tests.models import spoil_weights, write_int8_model, write_model

# Of Ray Serve's own configuration, when it is imported.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
NICENESS = 3
SETTINGS = ServeConfig(engine="torch", device="cpu", precision="fp32").model_dump()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_model(folder)
    return folder


@pytest.fixture(scope="module")
def good(model: Path) -> Predictor:
    return Predictor.load(model, device="cpu", precision="fp32")


@pytest.fixture(autouse=True)
def of_a_deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be in a deployment, as far as Ray Serve's batches ask."""
    deployment = SimpleNamespace(_deployment_config=SimpleNamespace(max_ongoing_requests=100))
    monkeypatch.setattr(ray.serve, "get_replica_context", lambda: deployment)


def pixels_of(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as picture:
        return np.asarray(picture, int)


class Broken:
    def probabilities(self, photos: np.ndarray) -> np.ndarray:
        raise RuntimeError("the device is gone")


def test_a_replica_whose_engine_fails_is_ill_until_it_computes_again(
    model: Path, good: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Predictor, "check", lambda *_, **__: lambda: good)
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


@pytest.mark.skipif(sys.platform != "linux", reason="niceness is a thread's own on Linux only")
def test_a_replica_loads_behind_others_and_answers_beside_them(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual, loading = os.getpriority(os.PRIO_PROCESS, 0), list[int]()
    check = Predictor.check

    def looked_at(*given: Any, **settings: Any) -> Callable[[], Predictor]:
        loading.append(os.getpriority(os.PRIO_PROCESS, 0))
        return check(*given, **settings)

    monkeypatch.setattr(Predictor, "check", looked_at)

    async def run() -> list[int]:
        replica = Replica(open_checkpoint(model), SETTINGS | {"engine": "openvino"}, 2, niceness=NICENESS)
        assert (await replica.card()).value().engine.startswith("openvino")
        return [os.getpriority(os.PRIO_PROCESS, int(thread)) for thread in os.listdir("/proc/self/task")]

    # Those that compute are OpenVINO's own, which Python does not know; the golden photo has been through them.
    assert set(asyncio.run(run())) == {usual}
    assert loading == [usual + NICENESS]


@pytest.mark.parametrize("answering", [True, False])
def test_a_replica_waits_for_its_turn_to_load_only_where_somebody_answers(
    answering: bool, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened, check = list[str](), Predictor.check

    @contextmanager
    def turn(session: Path) -> Iterator[None]:
        happened.append("its turn")
        yield
        happened.append("the next one's")

    def looked_at(*given: Any, **settings: Any) -> Callable[[], Predictor]:
        happened.append("load")
        return check(*given, **settings)

    monkeypatch.setattr(Predictor, "check", looked_at)
    monkeypatch.setattr("ray_trash.serve.replica.somebody_answers", lambda: answering)
    monkeypatch.setattr("ray_trash.serve.replica._turn_to_load", turn)
    monkeypatch.setattr("ray_trash.serve.replica._session_folder", lambda: tmp_path)
    origin: Any = SimpleNamespace(fetch=lambda timeout_s: open_checkpoint(model), wish=None)
    SharedReplica(origin, SETTINGS, 1, 0)
    assert happened == (["its turn", "load", "the next one's"] if answering else ["load"])


def test_replicas_of_one_machine_convert_a_network_once(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    converted = list[Any]()

    def noted(*given: Any) -> Any:
        converted.append(given)
        return convert_network(*given)

    monkeypatch.setattr("ray_trash.model.predictor.convert_network", noted)
    monkeypatch.setattr("ray_trash.serve.replica.somebody_answers", lambda: False)
    monkeypatch.setattr("ray_trash.serve.replica._session_folder", lambda: tmp_path)
    origin: Any = SimpleNamespace(fetch=lambda timeout_s: open_checkpoint(model), wish=None)
    for _ in range(2):
        replica = SharedReplica(origin, SETTINGS | {"engine": "openvino"}, 1, 0)
        assert asyncio.run(replica.card()).value().engine == "openvino float32 on cpu"
    assert len(converted) == 1


def test_a_map_is_of_the_answer_s_label_over_its_views_and_an_answer_without_one_is_the_same(model: Path) -> None:
    photos = [jpeg(smooth_photo()), b"no photo", encode(smooth_photo(40, 70), "PNG")]

    async def run() -> None:
        opened = open_checkpoint(model)
        replica = Replica(opened, SETTINGS | {"explain": True, "views": 8}, 1)
        plain, explained = await replica.answer(photos), await replica.answer(photos, explain=True)
        assert (plain.maps, plain.explain_s) == ({}, 0.0)
        np.testing.assert_array_equal(explained.probabilities, plain.probabilities)
        card = (await replica.card()).value()
        assert (card.views, card.calibrated_views) == (8, 1)
        predictor = Predictor.load(opened, device="cpu", precision="fp32", views=8)
        explainer = Explainer(opened, views=8)
        assert list(explained.maps) == [0, 2]
        assert explained.explain_s > 0
        for n, png in explained.maps.items():
            square = predictor.prepare(photos[n])
            answer = predictor.predict(square[None])
            np.testing.assert_allclose(explained.probabilities[n], answer[0], atol=1e-6)
            expected = heat_over(square, explainer.heat(square, int(answer.argmax())))
            # Another thread adds up in another order.
            np.testing.assert_allclose(pixels_of(png), pixels_of(expected), atol=2)

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


def test_a_model_that_was_quantized_says_int8_or_whatever_else_was_asked_of_it(model: Path, tmp_path: Path) -> None:
    write_int8_model(tmp_path / "int8", model)
    checkpoint = open_checkpoint(tmp_path / "int8")

    async def card(**settings: str) -> ModelCard:
        return (await Replica(checkpoint, ServeConfig(**settings).model_dump(), 1).card()).value()

    int8, as_float = asyncio.run(card()), asyncio.run(card(precision="fp32"))
    assert (int8.engine, as_float.engine) == ("openvino int8 on cpu", "openvino float32 on cpu")
    assert int8.id == as_float.id == checkpoint.document.id
    assert (int8.temperature, as_float.temperature) == (1.25, 0.9)
    with pytest.raises(ConfigError, match="int8 network, which OpenVINO alone computes"):
        asyncio.run(card(engine="torch"))
