"""Every engine answers as every other does."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ray_trash.errors import CheckpointError, ClusterError, ConfigError
from ray_trash.image.tensor import normalise
from ray_trash.model.checkpoint import write_checkpoint
from ray_trash.model.engine import plan_engine
from ray_trash.model.golden import compute_golden
from ray_trash.model.openvino_engine import OpenVinoEngine
from ray_trash.model.predictor import Predictor

FP32_TOLERANCE = 1e-4
"""How far two engines' probabilities may be apart in fp32."""
N_PHOTOS = 500

TASKS = Path("/proc/self/task")


@pytest.fixture(scope="module", autouse=True)
def every_processor() -> Iterator[None]:
    """Let every thread of this process use every processor, and so whatever one of them starts."""
    if not TASKS.exists():
        yield
        return
    share = os.sched_getaffinity(0)
    let_threads_use(range(os.cpu_count() or 1))
    yield
    let_threads_use(share)


def let_threads_use(processors: Iterable[int]) -> None:
    wanted, seen = set(processors), set[str]()
    while left := set(os.listdir(TASKS)) - seen:
        for task in left:
            with contextlib.suppress(ProcessLookupError):  # threads end meanwhile
                os.sched_setaffinity(int(task), wanted)
        seen |= left


@pytest.fixture(scope="module")
def photos() -> np.ndarray:
    """Blocks of colour at several scales: (N, 32, 32, 3) uint8."""
    random = np.random.default_rng(0)
    made = []
    for number in range(N_PHOTOS):
        cells = 2 ** (number % 4 + 1)
        blocks = random.integers(0, 256, (cells, cells, 3), np.uint8)
        made.append(blocks.repeat(32 // cells, axis=0).repeat(32 // cells, axis=1))
    return np.stack(made)


@pytest.fixture(scope="module")
def directory(trained, photos, tmp_path_factory) -> Path:
    """A checkpoint of a network that calls every class about equally often."""
    network = copy.deepcopy(trained.network).eval()
    head = network.fc[-1]
    with torch.no_grad():
        logits = network(normalise(torch.from_numpy(photos), trained.document.preprocessing))
        spread = logits.std(dim=0)
        head.weight /= spread[:, None]
        head.bias.copy_((head.bias - logits.mean(dim=0)) / spread)
    document = dataclasses.replace(
        trained.document,
        golden=compute_golden(network, trained.document.preprocessing, 1, trained.document.calibration),
    )
    folder = tmp_path_factory.mktemp("spread")
    write_checkpoint(folder, network.state_dict(), document)
    return folder


@pytest.fixture(scope="module")
def openvino(directory) -> Predictor:
    return Predictor.load(directory, engine="openvino", device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def torch_predictor(directory) -> Predictor:
    return Predictor.load(directory, engine="torch", device="cpu", precision="fp32")


def test_openvino_answers_as_torch_does(openvino, torch_predictor, photos):
    ours, reference = openvino.predict(photos), torch_predictor.predict(photos)
    assert np.bincount(reference.argmax(axis=1), minlength=3).min() > N_PHOTOS / 20
    np.testing.assert_allclose(ours, reference, atol=FP32_TOLERANCE)
    first, second = np.sort(reference, axis=1)[:, -1], np.sort(reference, axis=1)[:, -2]
    clear = first - second >= 0.01
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(ours.argmax(axis=1)[clear], reference.argmax(axis=1)[clear])


def test_over_views_that_are_not_the_checkpoint_s_openvino_answers_as_torch_does(directory, photos):
    ours, reference = (
        Predictor.load(directory, engine=engine, device="cpu", precision="fp32", views=8)
        for engine in ("openvino", "torch")
    )
    np.testing.assert_allclose(ours.predict(photos[:8]), reference.predict(photos[:8]), atol=FP32_TOLERANCE)


def test_an_engine_that_answers_otherwise_over_other_views_is_refused(directory, monkeypatch):
    class OneView(OpenVinoEngine):
        def __init__(self, *given: Any, views: int, **options: Any) -> None:
            super().__init__(*given, views=1, **options)

    monkeypatch.setattr("ray_trash.model.predictor.OpenVinoEngine", OneView)
    with pytest.raises(CheckpointError, match="answered differently"):
        Predictor.load(directory, engine="openvino", device="cpu", precision="fp32", views=8)


def test_openvino_answers_a_photo_to_the_bit_whatever_comes_with_it(openvino, photos):
    together = openvino.predict(photos[:7])
    alone = np.concatenate([openvino.predict(photo[np.newaxis]) for photo in photos[:7]])
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("engine", ["openvino", "torch_predictor"])
def test_calls_from_several_threads_get_their_own_answers(engine, photos, request):
    predictor = request.getfixturevalue(engine)
    parts = [photos[start : start + 5] for start in range(0, 60, 5)]
    expected = [predictor.predict(part) for part in parts]
    with ThreadPoolExecutor(4) as threads:
        said = list(threads.map(predictor.predict, parts))
    for ours, reference in zip(said, expected, strict=True):
        np.testing.assert_allclose(ours, reference, atol=FP32_TOLERANCE)


@pytest.mark.skipif(not TASKS.exists(), reason="threads are looked at in Linux's /proc")
def test_openvino_holds_no_thread_to_a_cpu_that_another_process_may_hold_too(openvino, photos):
    ours, held = os.sched_getaffinity(0), set()
    computing = threading.Thread(target=openvino.predict, args=(photos,))
    computing.start()
    while computing.is_alive():
        for task in os.listdir(TASKS):
            with contextlib.suppress(ProcessLookupError):  # threads end meanwhile
                held |= ours - os.sched_getaffinity(int(task))
    assert not held


def test_openvino_says_nothing_over_the_network(openvino):
    assert sys.modules["openvino_telemetry"] is None


def test_a_cpu_takes_openvino_where_it_is_installed_and_torch_where_it_is_not(monkeypatch):
    plan = plan_engine("auto", "cpu", "fp32")
    assert (plan.kind, plan.dtype) == ("openvino", torch.float32)
    assert plan.name == "openvino float32 on cpu"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert plan_engine("auto", "cpu", "fp32").kind == "torch"
    with pytest.raises(ConfigError, match="pip install openvino"):
        plan_engine("openvino", "cpu", "fp32")


def test_a_gpu_that_is_not_there_is_refused():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ClusterError, match="no CUDA GPU"):
        plan_engine("auto", "cuda", "auto")


@pytest.mark.gpu
def test_openvino_computes_on_no_gpu():
    with pytest.raises(ConfigError, match="CPUs only"):
        plan_engine("openvino", "cuda", "auto")


@pytest.mark.gpu
def test_a_recorded_graph_answers_any_number_of_photos(directory, torch_predictor, photos):
    gpu = Predictor.load(directory, engine="torch", device="cuda", precision="fp32")
    for n in (1, 3, 64, 65):
        np.testing.assert_allclose(gpu.predict(photos[:n]), torch_predictor.predict(photos[:n]), atol=5e-3)
