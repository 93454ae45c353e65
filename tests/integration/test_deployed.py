"""The application of `serve deploy`, on the shared Ray."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from ray import serve
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema

from ray_trash.config.yaml import from_yaml
from tests.e2e.command import wait_until
from tests.encoded import jpeg, smooth_photo
from tests.models import spoil_weights, write_model
from tests.processes import command_line, living

CONFIG = Path(__file__).parents[2] / "configs" / "serve-deploy.yaml"


class Deployed:
    """An application that is deployed as `serve deploy` does it, without the dashboard in between."""

    def __init__(self, port: int, operator_key_file: Path) -> None:
        self._operator_key_file = operator_key_file
        self.url = f"http://127.0.0.1:{port}"
        serve.start(http_options={"port": port})

    def deploy(self, checkpoint: Path, *, shadow: Path | None = None) -> None:
        tree = from_yaml(CONFIG.read_text(), str(CONFIG))
        (application,) = tree["applications"]
        places = {"checkpoint": checkpoint, "shadow": shadow}
        wish = {name: str(place) for name, place in places.items() if place is not None}
        application["deployments"][0]["user_config"] = wish
        application["args"] |= {"operator_key_file": str(self._operator_key_file), "shadow_share": 1.0}
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

    def kill(self, deployment: str) -> None:
        """Kill the processes of a deployment, and wait for others in their place."""
        killed = processes(deployment)
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: bool(processes(deployment) - killed), timeout_s=180, what=f"another {deployment}")


def processes(deployment: str) -> set[int]:
    named = re.compile(rf":{deployment}\b")
    return {pid for pid in living("ServeReplica:ray-trash", below=os.getpid()) if named.search(command_line(pid))}


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
    deployed: Deployed, tmp_path: Path
) -> None:
    first, second = (write_model(tmp_path / str(seed), seed=seed).id for seed in (0, 1))
    write_model(tmp_path / "spoilt", seed=1)
    spoil_weights(tmp_path / "spoilt", torch.arange(6.0))
    deployed.deploy(tmp_path / "0")
    deployed.wait_for(first)
    deployed.deploy(tmp_path / "spoilt")
    wait_until(lambda: deployed.model()["swap"].get("status") == "refused", timeout_s=180, what="the refusal")
    refused = deployed.model()
    assert refused["id"] == first
    assert "answered differently" in refused["swap"]["detail"]
    assert str(tmp_path) not in str(refused)
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
    serve.delete("ray-trash", _blocking=False)
    wait_until(lambda: not serve.status().applications, timeout_s=180, what="the end of all applications")
