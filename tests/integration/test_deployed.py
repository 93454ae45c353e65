"""The application of `serve deploy`, on the shared Ray."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import torch
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema

from ray_trash.config import ServeConfig
from ray_trash.config.yaml import from_yaml
from ray_trash.doctor.access import listeners_of
from ray_trash.model.checkpoint import open_checkpoint
from ray_trash.serve import replicas
from ray_trash.serve.fleet import Fleet
from tests.e2e.command import wait_until
from tests.encoded import jpeg, smooth_photo
from tests.models import spoil_weights, write_model
from tests.processes import command_line, living
from tests.runs import Command

CONFIG = Path(__file__).parents[2] / "configs" / "serve-deploy.yaml"


class Deployed:
    """An application that is deployed as `serve deploy` does it, without the dashboard in between."""

    def __init__(self, port: int, operator_key_file: Path) -> None:
        self._operator_key_file = operator_key_file
        self.url = f"http://127.0.0.1:{port}"
        serve.start(http_options={"port": port})

    def deploy(self, checkpoint: Path, *, shadow: Path | None = None, **settings: Any) -> None:
        tree = from_yaml(CONFIG.read_text(), str(CONFIG))
        (application,) = tree["applications"]
        places = {"checkpoint": checkpoint, "shadow": shadow}
        wish = {name: str(place) for name, place in places.items() if place is not None}
        application["deployments"][0]["user_config"] = wish
        operator = {"operator_key_file": str(self._operator_key_file)}
        application["args"] |= operator | {"shadow_share": 1.0, **settings}
        client: Any = _get_global_client()
        client.deploy_apps(ServeDeploySchema.model_validate(tree), _blocking=False)

    def model(self) -> dict[str, Any]:
        try:
            return dict(httpx.get(f"{self.url}/v1/model", timeout=30).json())
        except (httpx.TransportError, ValueError):
            return {}

    def shadow(self) -> dict[str, Any]:
        return self.model().get("shadow") or {}

    def score(self) -> dict[str, Any]:
        image = {"content-type": "image/jpeg"}
        answer = httpx.post(f"{self.url}/v1/score", content=jpeg(smooth_photo()), headers=image, timeout=60)
        return dict(answer.raise_for_status().json())

    def wait_for(self, model_id: str) -> None:
        wait_until(lambda: self.model().get("id") == model_id, timeout_s=180, what=model_id)

    def models(self) -> set[str]:
        return {name for name in serve.status().applications if name != "ray-trash"}

    def wait_for_problem(self, words: str) -> dict[str, Any]:
        """Wait until `/v1/model` says why there is none, and return that."""

        def says() -> bool:
            return words in self.model().get("error", {}).get("message", "")

        wait_until(says, timeout_s=180, what=words)
        return dict(self.model()["error"])

    def kill(self, deployment: str) -> None:
        """Kill the processes of a deployment, and wait for others in their place."""
        killed = processes(deployment)
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: bool(processes(deployment) - killed), timeout_s=180, what=f"another {deployment}")


def processes(deployment: str) -> set[int]:
    named = re.compile(rf":{deployment}\b")
    return {pid for pid in living("ServeReplica:ray-trash", below=os.getpid()) if named.search(command_line(pid))}


def listeners_on_every_address(deployment: str) -> int:
    """Count them in the one process of a deployment."""
    (pid,) = processes(deployment)
    return sum(listener.address == "::" for listener in listeners_of([psutil.Process(pid)]))


@pytest.fixture
def deployed(ray_cluster: None, tmp_path: Path) -> Iterator[Deployed]:
    key_file = tmp_path / "operator.key"
    key_file.write_text("of-operators")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    yield Deployed(port, key_file)
    serve.shutdown()


def test_a_serve_config_exchanges_the_model_and_what_was_promoted_outlives_the_gateway_and_the_folder(
    deployed: Deployed, tmp_path: Path, command: Command
) -> None:
    first, second = (write_model(tmp_path / str(seed), seed=seed).id for seed in (0, 1))
    write_model(tmp_path / "spoilt", seed=1)
    spoil_weights(tmp_path / "spoilt", torch.arange(6.0))

    # Before there is a model, the deployment waits, and says for what.
    deployed.deploy(tmp_path / "spoilt", replicas=64)
    assert deployed.wait_for_problem("available: 4")["code"] == "not_ready"
    assert state(command) == (6, "waiting", None)
    deployed.deploy(tmp_path / "spoilt")
    problem = deployed.wait_for_problem("answered differently")
    assert problem["code"] == "model_refused"
    assert str(tmp_path) not in str(problem)
    assert state(command) == (4, "refused", None)
    assert serve.status().applications["ray-trash"].status == "DEPLOYING"
    deployed.deploy(tmp_path / "0")
    deployed.wait_for(first)
    wait_until(lambda: state(command) == (0, "serving", first), timeout_s=60, what="a deployment that serves")
    # The one port of any process of a Ray that other machines may join.
    assert [listeners_on_every_address(name) for name in ("Gateway", "Models", "Model")] == [1, 1, 1]
    # Ray's own words do not reach anybody.
    assert httpx.get(f"{deployed.url}/-/routes").json()["error"]["code"] == "not_found"

    deployed.deploy(tmp_path / "spoilt")
    wait_until(lambda: deployed.model()["swap"].get("status") == "refused", timeout_s=180, what="the refusal")
    refused = deployed.model()
    assert refused["id"] == first
    assert "answered differently" in refused["swap"]["detail"]
    assert str(tmp_path) not in str(refused)
    assert state(command) == (4, "refused", first)
    deployed.deploy(tmp_path / "1")
    deployed.wait_for(second)
    way_back, operator = f"{deployed.url}/v1/model/rollback", {"authorization": "Bearer of-operators"}
    assert httpx.post(way_back, timeout=120).status_code == 401
    back = httpx.post(way_back, headers=operator, timeout=240)
    assert back.headers.get_list("x-request-id") == [back.headers["x-request-id"]]
    assert (back.status_code, back.json()["id"]) == (200, first)

    deployed.deploy(tmp_path / "0", shadow=tmp_path / "1")
    wait_until(lambda: deployed.shadow().get("id") == second, timeout_s=180, what="the model on trial")
    assert deployed.score()["model"]["id"] == first
    wait_until(lambda: deployed.shadow()["figures"]["photos"] == 1, timeout_s=60, what="its answer")
    promoted = httpx.post(f"{deployed.url}/v1/model/promote", headers=operator, timeout=240)
    assert (promoted.status_code, promoted.json()["id"]) == (200, second)
    assert promoted.json()["shadow"]["swap"]["status"] == "promoted"

    # The folder is not what it was, and nobody who was there is there any more.
    shutil.rmtree(tmp_path / "1")
    wait_until(lambda: len(deployed.models()) == 1, timeout_s=180, what="the end of the model before")
    before = deployed.models()
    deployed.kill("Gateway")
    deployed.wait_for(second)
    deployed.kill("Models")
    wait_until(lambda: len(deployed.models()) == 1 and deployed.models() != before, timeout_s=180, what="new replicas")
    deployed.kill("Model")
    assert deployed.score()["model"]["id"] == second
    other: Any = Other
    serve.run(other.bind(), name="other", route_prefix=None)
    down = command("deployment", "down")
    assert down.code == 0, down.err
    assert set(serve.status().applications) == {"other"}
    assert state(command)[0] == 2


@serve.deployment(ray_actor_options={"num_cpus": 0})
class Other:
    """What somebody else runs on the same cluster."""


def state(command: Command) -> tuple[int, str | None, str | None]:
    """Return how `deployment status` ends, the state it says, and who answers."""
    result = command("deployment", "status", "--json")
    said = json.loads(result.out or "{}")
    return result.code, said.get("state"), said.get("model")


def test_replicas_come_with_requests_and_go_after_them_and_none_is_lost(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path / "model")
    quick = {"upscale_delay_s": 1.0, "downscale_delay_s": 1.0, "look_back_period_s": 2.0}
    monkeypatch.setattr(replicas, "SCALING", quick)
    photos = [jpeg(smooth_photo())] * 8

    async def ask(served: Fleet, over: Callable[[], bool], pause_s: float = 0.0) -> None:
        deadline_s = time.monotonic() + 180
        # Looked up beside what the others ask: on a busy machine that takes longer than an answer.
        while not await asyncio.to_thread(over):
            assert time.monotonic() < deadline_s, "the number of replicas stays"
            await served.score(photos, timeout_s=60)
            await asyncio.sleep(pause_s)

    async def run() -> None:
        # None fewer than one request under way is what three clients have of one replica.
        settings = ServeConfig(replicas=1, max_replicas=2, target_requests_per_replica=0.5)
        served = Fleet(settings, name="scaled")
        serve.start(proxy_location="Disabled")
        try:
            await served.swap(open_checkpoint(str(tmp_path / "model")))
            assert running(served) == 1
            await asyncio.gather(*(ask(served, lambda: running(served) == 2) for _ in range(3)))
            await ask(served, lambda: running(served) == 1, pause_s=1.0)
        finally:
            await served.stop()

    asyncio.run(run())
    serve.shutdown()


def running(served: Fleet) -> int:
    """Count the replicas that there are; one that is on its way in or out does not count as away."""
    about = serve.status().applications[served.application() or ""].deployments["Model"]
    return sum(about.replica_states.values()) if len(about.replica_states) == 1 else 0
