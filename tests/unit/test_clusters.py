from __future__ import annotations

import json
import re
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ray_trash.config.yaml import from_yaml

ROOT = Path(__file__).parents[2]
CLUSTERS = ROOT / "clusters"
FILES = sorted(CLUSTERS.glob("*.yaml"))
LAUNCHER_FILES = [path for path in FILES if not path.name.startswith("kuberay-")]
RAY_VERSION = dict(re.findall(r"(\w+)==(\S+)", (ROOT / "constraints.txt").read_text()))["ray"]

every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
every_launcher_file = pytest.mark.parametrize("path", LAUNCHER_FILES, ids=lambda path: path.name)


def load(path: Path) -> dict[str, Any]:
    return from_yaml(path.read_text(), path.name)


def header_and_body(path: Path) -> tuple[str, str]:
    header, body = re.split(r"^(?!#)", path.read_text(), maxsplit=1, flags=re.MULTILINE)
    return header, body


def ray_cluster_spec(name: str) -> dict[str, Any]:
    document = load(CLUSTERS / name)
    return document["spec"] if document["kind"] == "RayCluster" else document["spec"]["rayClusterSpec"]


def pod_specs(name: str) -> list[dict[str, Any]]:
    spec = ray_cluster_spec(name)
    pods = [group["template"]["spec"] for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]]
    submitter = load(CLUSTERS / name)["spec"].get("submitterPodTemplate")
    return [*pods, submitter["spec"]] if submitter else pods


def test_the_files_of_the_contract_are_there():
    assert {path.name for path in FILES} == {
        "aws-gpu.yaml",
        "gcp-gpu.yaml",
        "kuberay-cluster.yaml",
        "kuberay-job.yaml",
        "kuberay-networkpolicy.yaml",
    }


@every_file
def test_a_file_opens_with_what_it_starts_costs_and_how_to_end_it(path):
    header, _ = header_and_body(path)
    assert re.findall(r"^# (\w+):", header, re.MULTILINE)[:2] == ["Starts", "Cost"]
    assert re.search(r"^# (Up|Submit):", header, re.MULTILINE)
    assert re.search(r"^# Down: ", header, re.MULTILINE)


@every_file
def test_a_file_holds_no_option_that_is_switched_off(path):
    _, body = header_and_body(path)
    assert not re.search(r"^\s*#\s*(- )?[\w-]+:(\s|$)", body, re.MULTILINE)


@every_file
def test_no_file_opens_a_port_to_the_world(path):
    text = path.read_text()
    assert "0.0.0.0" not in text
    assert not re.search(r"NodePort|LoadBalancer|hostNetwork|hostPort", text)


def test_every_ray_image_has_the_ray_of_the_lock():
    for path in [*LAUNCHER_FILES, CLUSTERS / "Dockerfile"]:
        images = re.findall(r"rayproject/ray:(\S+?)-", path.read_text())
        assert images == [RAY_VERSION], path.name
    for name in ("kuberay-cluster.yaml", "kuberay-job.yaml"):
        assert ray_cluster_spec(name)["rayVersion"] == RAY_VERSION


def test_the_config_that_the_files_run_is_there():
    runs = [re.findall(r"run \S*?(configs/\S+)", path.read_text()) for path in FILES]
    assert [config for found in runs for config in found] == ["configs/trashnet.yaml"] * 4
    assert (ROOT / "configs/trashnet.yaml").is_file()


@every_launcher_file
def test_a_launcher_file_follows_the_schema_of_ray_and_is_short(path):
    schema = Path(str(distribution("ray").locate_file("ray/autoscaler/ray-schema.json")))
    jsonschema.validate(load(path), json.loads(schema.read_text()))
    assert len(path.read_text().splitlines()) < 50


@every_launcher_file
def test_the_head_of_a_launcher_file_does_no_work_and_the_workers_fit(path):
    document = load(path)
    nodes = document["available_node_types"]
    assert nodes.pop(document["head_node_type"])["resources"] == {"CPU": 0, "GPU": 0}
    assert sum(node["min_workers"] for node in nodes.values()) == document["max_workers"]
    assert all(node["resources"]["GPU"] == 1 for node in nodes.values())


@every_launcher_file
def test_a_launcher_file_binds_to_loopback_asks_for_the_token_and_sends_no_statistics(path):
    document = load(path)
    head, worker = document["head_start_ray_commands"][-1], document["worker_start_ray_commands"][-1]
    assert "--dashboard-host=127.0.0.1" in head
    assert "--disable-usage-stats" in head
    assert "--disable-usage-stats" in worker
    options = document["docker"]["run_options"]
    assert "--env RAY_AUTH_MODE=token" in options
    (token_path,) = re.findall(r"RAY_AUTH_TOKEN_PATH=(\S+)", " ".join(options))
    assert document["file_mounts"][token_path] == "~/.ray/auth_token"
    assert any(option.startswith("--shm-size=") for option in options)


@every_launcher_file
def test_a_launcher_file_installs_from_the_lock(path):
    document = load(path)
    (command,) = document["setup_commands"]
    remote = command.removeprefix("pip install --require-hashes -r ")
    assert (ROOT / document["file_mounts"][remote]).is_file()


@pytest.mark.parametrize("name", ["kuberay-cluster.yaml", "kuberay-job.yaml"])
def test_a_kuberay_cluster_asks_for_the_token_and_its_head_does_no_work(name):
    spec = ray_cluster_spec(name)
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert spec["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
    (workers,) = spec["workerGroupSpecs"]
    assert workers["minReplicas"] == workers["replicas"] == workers["maxReplicas"]


@pytest.mark.parametrize("name", ["kuberay-cluster.yaml", "kuberay-job.yaml"])
def test_every_kuberay_pod_is_bounded_and_without_privileges(name):
    pods = pod_specs(name)
    assert len(pods) == {"kuberay-cluster.yaml": 2, "kuberay-job.yaml": 3}[name]
    for pod in pods:
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert set(container["resources"]["limits"]) >= {"cpu", "memory"}


def test_the_kuberay_job_ends_its_cluster_and_runs_this_project():
    spec = load(CLUSTERS / "kuberay-job.yaml")["spec"]
    assert spec["entrypoint"].startswith("ray-trash run ")
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["ttlSecondsAfterFinished"] > 0
    assert spec["activeDeadlineSeconds"] > 0


def test_the_network_policy_lets_in_ray_the_submitter_and_the_operator_only():
    spec = load(CLUSTERS / "kuberay-networkpolicy.yaml")["spec"]
    ray_pods = {"ray.io/is-ray-node": "yes"}
    assert spec["podSelector"] == {"matchLabels": ray_pods}
    assert spec["policyTypes"] == ["Ingress"]
    cluster, control = spec["ingress"]
    assert cluster == {"from": [{"podSelector": {"matchLabels": ray_pods}}]}
    assert control["ports"] == [{"protocol": "TCP", "port": 8265}]
    submitter, operator = control["from"]
    template = load(CLUSTERS / "kuberay-job.yaml")["spec"]["submitterPodTemplate"]
    assert submitter == {"podSelector": {"matchLabels": template["metadata"]["labels"]}}
    assert operator["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "kuberay-operator"}
