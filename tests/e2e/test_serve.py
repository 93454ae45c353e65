"""The endpoint as people run it: killed, hung, swapped, flooded and stopped, with clients at it."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from ray_trash.doctor.access import listeners_of
from ray_trash.model.checkpoint import MARKER
from ray_trash.model.predictor import Predictor
from tests.e2e.command import run, start, wait_until
from tests.e2e.endpoint import Endpoint, endpoint, events_in
from tests.encoded import jpeg, smooth_photo
from tests.models import spoil_weights, write_model
from tests.processes import living

JPEG = {"content-type": "image/jpeg"}
PAUSE_S = 0.3
"""Between two requests of one client: three of them then take half of one processor, and leave the other half to what
happens meanwhile."""
NO_ANSWER = 0
"""What counts as the status of a request whose connection was lost."""
STUCK_S = 1.0
"""Longer than a replica that lives takes to answer one photo."""


@pytest.fixture(scope="module")
def photo() -> bytes:
    return jpeg(smooth_photo())


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models, and a run that has the first one."""
    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "first", seed=0)
    write_model(folder / "second", seed=1)
    shutil.copytree(folder / "first", folder / "run" / "checkpoint")
    return folder


@pytest.fixture(scope="module")
def served(models: Path) -> Iterator[Endpoint]:
    """Serve a run with two replicas, watched; each of those it starts on the way is there a third sooner by torch."""
    settings = {
        "watch_interval_s": 0.5,
        "timeout_s": 60,
        "max_batch_images": 64,
        "precision": "fp32",
        "engine": "torch",
        "explain": "true",
    }
    changes = [part for key, value in settings.items() for part in ("--set", f"serve.{key}={value}")]
    with endpoint("--watch", models / "run", "--replicas", 2, *changes) as running:
        yield running


def test_nothing_but_the_endpoint_listens_and_that_on_loopback(served: Endpoint) -> None:
    command = psutil.Process(served.child.pid)
    assert listeners_of([command, *command.children(recursive=True)]) == []


class Load:
    """Clients that ask again and again while something happens, and leave the processors some room for it."""

    def __init__(self, url: str, photo: bytes) -> None:
        self.statuses: Counter[int] = Counter()
        self.ids: set[str] = set()
        self.slowest_s = 0.0
        self._waiting_since: dict[int, float] = {}
        self._url, self._photo, self._over = url, photo, threading.Event()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(3)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        self.wait_for_answers(5)
        return self

    def wait_for_answers(self, n: int) -> None:
        before = self.statuses[200]
        wait_until(lambda: self.statuses[200] >= before + n, timeout_s=120, what="answers")

    def wait_for_a_stuck_request(self) -> None:
        """Wait until a client has been waiting for longer than an answer takes."""

        def is_stuck() -> bool:
            return any(time.monotonic() - since > STUCK_S for since in list(self._waiting_since.values()))

        wait_until(is_stuck, timeout_s=60, what="a request at a stopped replica")

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(timeout=70)
            assert not thread.is_alive()

    def _ask(self) -> None:
        with httpx.Client(timeout=70) as client:
            while not self._over.is_set():
                started = self._waiting_since[threading.get_ident()] = time.monotonic()
                try:
                    response = client.post(f"{self._url}/v1/score", content=self._photo, headers=JPEG)
                except httpx.HTTPError:
                    self.statuses[NO_ANSWER] += 1
                    raise
                finally:
                    del self._waiting_since[threading.get_ident()]
                self.statuses[response.status_code] += 1
                self.slowest_s = max(self.slowest_s, time.monotonic() - started)
                if response.status_code == 200:
                    self.ids.add(response.json()["model"]["id"])
                self._over.wait(PAUSE_S)


def numbered_photo(number: int) -> bytes:
    """Draw squares in random colours: another picture for every number, and another answer."""
    colours = np.random.default_rng(number).integers(0, 256, (12, 16, 3), np.uint8)
    return jpeg(colours.repeat(16, axis=0).repeat(16, axis=1))


def test_a_batch_of_64_with_one_bad_photo_is_63_answers_and_one_error_in_order(served: Endpoint, models: Path) -> None:
    photos = [numbered_photo(number) for number in range(64)]
    good = [number for number in range(64) if number != 30]
    predictor = Predictor.load(models / "first", precision="fp32", device="cpu")
    expected = predictor.predict(np.stack([predictor.prepare(photos[number]) for number in good]))
    photos[30] = photos[30][: len(photos[30]) // 2]
    files = [("images", (f"{n}.jpg", data, "image/jpeg")) for n, data in enumerate(photos)]
    response = httpx.post(f"{served.url}/v1/score", files=files, timeout=60)
    results = response.json()["results"]
    assert response.status_code == 200
    assert [result["name"] for result in results] == [f"{n}.jpg" for n in range(64)]
    assert [n for n, result in enumerate(results) if result["status"] == "error"] == [30]
    assert results[30]["error"]["code"] == "truncated"
    said = [list(results[number]["probabilities"].values()) for number in good]
    np.testing.assert_allclose(said, expected, atol=1e-4)


def test_what_an_answer_looked_at_is_a_picture_of_what_the_network_saw(served: Endpoint, photo: bytes) -> None:
    url = f"{served.url}/v1/score"
    plain, explained = (
        httpx.post(url, content=photo, headers=JPEG, params=params, timeout=60).json()["results"][0]
        for params in ({}, {"explain": "true"})
    )
    with Image.open(io.BytesIO(base64.b64decode(explained.pop("map_png")))) as drawn:
        assert (drawn.format, drawn.size) == ("PNG", (32, 32))
    assert explained.keys() == plain.keys()
    assert explained["label"] == plain["label"]
    assert explained["confidence"] == pytest.approx(plain["confidence"], abs=1e-5)


def test_killed_and_hung_replicas_under_load_cost_no_request_and_are_replaced(served: Endpoint, photo: bytes) -> None:
    def one_of_two() -> int:
        wait_until(lambda: len(served.answering_pids()) >= 2, timeout_s=120, what="two replicas")
        return served.answering_pids()[0]

    def told() -> list[tuple[str, int]]:
        return [(event["event"], event["running"]) for event in events_in(served.said) if "running" in event]

    with Load(served.url, photo) as load:
        for _ in range(2):
            # Stopped first, so that it has a request when it is killed.
            os.kill(killed := one_of_two(), signal.SIGSTOP)
            load.wait_for_a_stuck_request()
            os.kill(killed, signal.SIGKILL)
            load.wait_for_answers(3)
        os.kill(hung := one_of_two(), signal.SIGSTOP)
        wait_until(lambda: hung not in served.replica_pids(), timeout_s=120, what="the hung replica's end")
    wait_until(lambda: told()[-1:] == [("replicas_back", 2)], timeout_s=120, what="all replicas")
    assert ("replica_gone", 1) in told()
    assert set(load.statuses) == {200}, load.statuses
    assert load.slowest_s < 45


def truncated(folder: Path) -> None:
    path = folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    marker = json.loads((folder / MARKER).read_text())
    (folder / MARKER).write_text(json.dumps(marker) + " ")


def other_answers(folder: Path) -> None:
    spoil_weights(folder, torch.arange(6.0))


def other_classes(folder: Path) -> None:
    shutil.rmtree(folder)
    write_model(folder, seed=5, classes=("a", "b", "c", "d", "e", "f"))


def publish(model: Path, run: Path, spoil: Callable[[Path], None] | None = None) -> None:
    """Put a checkpoint in a run's place as training does: its marker last."""
    copy = run.parent / "copy"
    shutil.copytree(model, copy)
    if spoil is not None:
        spoil(copy)
    place = run / "checkpoint"
    (place / MARKER).unlink(missing_ok=True)
    for path in sorted(copy.iterdir(), key=lambda path: path.name == MARKER):
        shutil.copyfile(path, place / path.name)
    shutil.rmtree(copy)


def test_a_good_checkpoint_takes_over_under_load_bad_ones_never_answer_and_there_is_a_way_back(
    served: Endpoint, models: Path, photo: bytes
) -> None:
    first = served.model_id()
    with Load(served.url, photo) as load:
        for spoil in (truncated, other_answers, other_classes):
            publish(models / "second", models / "run", spoil)
            wait_until(
                lambda: was_refused(served) and swap(served).get("status") == "refused",
                timeout_s=180,
                what=f"the refusal of {spoil.__name__}",
            )
            assert served.model_id() == first
            assert str(models) not in json.dumps(swap(served))
            forget_refusals(served)
        publish(models / "second", models / "run")
        wait_until(lambda: served.model_id() != first, timeout_s=180, what="the new model")
        second = served.model_id()
        wait_until(lambda: second in load.ids, timeout_s=60, what="an answer by the new model")
        assert swap(served)["status"] == "done"
        assert httpx.post(f"{served.url}/v1/model/rollback").status_code == 401
        back = run("rollback", "--url", served.url)
        assert back.returncode == 0, back.stderr
        assert served.model_id() == first
        time.sleep(2)
        assert served.model_id() == first
    assert set(load.statuses) == {200}, load.statuses
    assert load.ids == {first, second}
    exchanges = [(event["before"], event["model"]) for event in served.events("exchanged")]
    assert exchanges == [(first, second), (second, first)]
    assert [event["model"] for event in served.events("rollback")] == [first]
    requests = served.events("request")
    assert {(event["photos"], event["model"]) for event in requests if event["path"] == "/v1/score"} >= {(1, second)}


def swap(served: Endpoint) -> dict[str, str]:
    state: dict[str, str] = httpx.get(f"{served.url}/v1/model").json()["swap"]
    return state


def was_refused(served: Endpoint) -> bool:
    return bool(served.events("refused"))


def forget_refusals(served: Endpoint) -> None:
    served.said[:] = [line for line in served.said if '"refused"' not in line]


def test_a_flood_is_turned_away_at_once_and_what_is_let_in_is_answered(served: Endpoint, photo: bytes) -> None:
    files = [("images", (f"{n}.jpg", photo, "image/jpeg")) for n in range(64)]
    statuses: Counter[int] = Counter()

    def ask(_: int) -> None:
        response = httpx.post(f"{served.url}/v1/score", files=files, timeout=70)
        statuses[response.status_code] += 1
        assert response.status_code == 200 or int(response.headers["retry-after"]) >= 1

    wait_until(lambda: len(served.answering_pids()) >= 2, timeout_s=120, what="two replicas")
    stopped = served.answering_pids()
    with ThreadPoolExecutor(32) as pool:
        try:
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            asked = [pool.submit(ask, n) for n in range(64)]
            # Nobody is answered meanwhile, so whoever is turned away does not wait for those who are.
            wait_until(lambda: statuses[503] >= 8, timeout_s=15, what="refusals")
            assert statuses[200] == 0
        finally:
            for pid in stopped:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
        for answer in asked:
            answer.result()
    assert set(statuses) == {200, 503}
    assert httpx.post(f"{served.url}/v1/score", content=photo, headers=JPEG).status_code == 200


def test_the_readme_s_client_and_its_curl_get_answers(served: Endpoint, photo: bytes, tmp_path: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    (script,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    (curl,) = re.findall(r"^\$ (curl .*)$", readme, re.MULTILINE)
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(photo)
    for command in ([sys.executable, "-c", script], ["bash", "-c", curl]):
        asked = [part.replace("http://127.0.0.1:8000", served.url) for part in command]
        finished = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
        assert "a.jpg" in finished.stdout


def test_a_terminal_that_closes_while_it_starts_ends_it_too(models: Path) -> None:
    # Under nohup the signal is ignored, by these tests' process and by all that it starts.
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    child = start("serve", models / "first", "--port", 0)
    signal.signal(signal.SIGHUP, before)
    session = os.getsid(child.pid)
    wait_until(
        lambda: bool(living("ServeController", session=session)),
        timeout_s=120,
        what="Serve",
    )
    child.send_signal(signal.SIGHUP)
    clusters: set[int] = set()

    def has_ended() -> bool:
        clusters.update(living("gcs_server", session=session))
        return child.poll() is not None

    wait_until(has_ended, timeout_s=20, what="the endpoint's end")
    assert child.returncode == 0, child.communicate()[1]
    assert len(clusters) == 1, "it started another Ray on its way out"
    wait_until(lambda: not living(session=session), timeout_s=15, what="Ray's processes to end")


def test_sigterm_answers_what_is_waiting_and_leaves_no_process_however_many_follow(
    served: Endpoint, photo: bytes
) -> None:
    def has_ended() -> bool:
        served.child.send_signal(signal.SIGINT)
        return served.child.poll() is not None

    answers: list[int] = []
    files = [("images", (f"{n}.jpg", photo, "image/jpeg")) for n in range(64)]

    def ask() -> None:
        answers.append(httpx.post(f"{served.url}/v1/score", files=files, timeout=30).status_code)

    waiting = threading.Thread(target=ask)
    waiting.start()
    time.sleep(0.3)
    started = time.monotonic()
    served.child.send_signal(signal.SIGTERM)
    wait_until(has_ended, timeout_s=15, what="the endpoint to end")
    assert served.child.returncode == 0
    assert time.monotonic() - started < 15
    waiting.join(timeout=5)
    assert answers == [200]
