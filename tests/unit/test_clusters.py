from __future__ import annotations

import json
import re
import shlex
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

from ray_trash.arguments import build_parser
from ray_trash.cluster.job_command import understand
from ray_trash.config.yaml import from_yaml

ROOT = Path(__file__).parents[2]
CLUSTERS = ROOT / "clusters"
FILES = sorted(CLUSTERS.glob("*.yaml"))
LAUNCHER_FILES = [path for path in FILES if not path.name.startswith("kuberay-")]
RAY_VERSION = dict(re.findall(r"(\w+)==(\S+)", (ROOT / "constraints.txt").read_text()))["ray"]

KUBERAY_FILES = [path for path in FILES if path not in LAUNCHER_FILES and "networkpolicy" not in path.name]
KUBERAY_FIELDS = {
    "RayJob": "entrypoint submissionMode backoffLimit shutdownAfterJobFinishes ttlSecondsAfterFinished "
    "activeDeadlineSeconds submitterPodTemplate rayClusterSpec",
    "RayCluster": "rayVersion authOptions enableInTreeAutoscaling autoscalerOptions headGroupSpec workerGroupSpecs",
    "autoscalerOptions": "idleTimeoutSeconds resources securityContext",
    "headGroupSpec": "serviceType rayStartParams template",
    "workerGroupSpecs": "groupName replicas minReplicas maxReplicas rayStartParams template",
}
"""Those that these files use, by the type of KubeRay's `ray.io/v1` that has them: no package carries its schema."""

every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
every_launcher_file = pytest.mark.parametrize("path", LAUNCHER_FILES, ids=lambda path: path.name)
every_kuberay_file = pytest.mark.parametrize("path", KUBERAY_FILES, ids=lambda path: path.name)


def load(path: Path) -> dict[str, Any]:
    return from_yaml(path.read_text(), path.name)


def header_and_body(path: Path) -> tuple[str, str]:
    header, body = re.split(r"^(?!#)", path.read_text(), maxsplit=1, flags=re.MULTILINE)
    return header, body


def ray_cluster_spec(path: Path) -> dict[str, Any]:
    document = load(path)
    return document["spec"] if document["kind"] == "RayCluster" else document["spec"]["rayClusterSpec"]


def pod_specs(path: Path) -> list[dict[str, Any]]:
    spec = ray_cluster_spec(path)
    pods = [group["template"]["spec"] for group in [spec["headGroupSpec"], *spec["workerGroupSpecs"]]]
    submitter = load(path)["spec"].get("submitterPodTemplate")
    return [*pods, submitter["spec"]] if submitter else pods


def commands_of(path: Path) -> list[list[str]]:
    """Read the commands of this program that a file runs or has a person run."""
    header, _ = header_and_body(path)
    entrypoint = load(path).get("spec", {}).get("entrypoint", "")
    text = re.sub(r"\\\n#", " ", header) + "\n" + entrypoint
    return [shlex.split(line) for line in re.findall(r"\bray-trash ((?:submit|run|tune) .*)", text)]


def test_the_files_of_the_contract_are_there():
    assert {path.name for path in FILES} == {
        "aws-cpu.yaml",
        "aws-gpu-spot.yaml",
        "aws-gpu.yaml",
        "gcp-cpu.yaml",
        "gcp-gpu-spot.yaml",
        "gcp-gpu.yaml",
        "kuberay-cluster.yaml",
        "kuberay-cpu.yaml",
        "kuberay-job.yaml",
        "kuberay-networkpolicy.yaml",
        "kuberay-sweep.yaml",
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
    for path in KUBERAY_FILES:
        assert ray_cluster_spec(path)["rayVersion"] == RAY_VERSION


@every_file
def test_a_file_names_one_command_that_this_program_takes_with_a_config_it_accepts(path):
    commands = commands_of(path)
    assert len(commands) == (0 if "networkpolicy" in path.name else 1)
    for words in commands:
        options = build_parser().parse_args(words)
        job = options.job if words[0] == "submit" else words
        # The image has the repository at this place.
        job = [word.removeprefix("/home/ray/ray-trash/") for word in job]
        command = understand(job, build_parser().parse_args(job), ROOT)
        assert not command.warnings, "photos and runs are where every machine sees them"


@every_file
def test_a_file_speaks_of_itself(path):
    header, _ = header_and_body(path)
    named = re.findall(r"clusters/(\S+\.yaml)", header)
    assert set(named) <= {path.name, "kuberay-networkpolicy.yaml"}
    assert path.name in named


def test_clusters_have_names_of_their_own_so_that_one_does_not_take_over_another():
    names = [(path.name.split("-")[0], load(path)["cluster_name"]) for path in LAUNCHER_FILES]
    names += [(load(path)["kind"], load(path)["metadata"]["name"]) for path in KUBERAY_FILES]
    assert len(set(names)) == len(names)


@every_launcher_file
def test_a_launcher_file_follows_the_schema_of_ray_and_is_short(path):
    schema = Path(str(distribution("ray").locate_file("ray/autoscaler/ray-schema.json")))
    jsonschema.validate(load(path), json.loads(schema.read_text()))
    assert len(path.read_text().splitlines()) < 50


@every_launcher_file
def test_the_head_of_a_launcher_file_does_no_work_and_the_workers_fit(path):
    document = load(path)
    nodes = document["available_node_types"]
    head = nodes.pop(document["head_node_type"])
    assert head["resources"] == {"CPU": 0, "GPU": 0}
    ((name, node),) = nodes.items()
    assert node["resources"]["GPU"] == int(name == "gpu") == int("-gpu" in path.name)
    # Either all of them stay, or as many come as are asked for, and go.
    assert node["min_workers"] in (0, document["max_workers"])
    assert (node["min_workers"] == 0) == (node.get("max_workers") == document["max_workers"])
    assert (node["min_workers"] == 0) == ("idle_timeout_minutes" in document)
    # Whoever drives a run must not vanish with a worker.
    on_spot = [
        re.search(r"'MarketType': 'spot'|'preemptible': True", str(kind["node_config"])) for kind in (head, node)
    ]
    assert [bool(found) for found in on_spot] == [False, "spot" in path.name]


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


@every_kuberay_file
def test_a_kuberay_file_uses_fields_that_kuberay_has(path):
    document, spec = load(path), ray_cluster_spec(path)
    used = {document["kind"]: document["spec"], "RayCluster": spec, "headGroupSpec": spec["headGroupSpec"]}
    used["autoscalerOptions"] = spec.get("autoscalerOptions", {})
    (used["workerGroupSpecs"],) = spec["workerGroupSpecs"]
    assert document["apiVersion"] == "ray.io/v1"
    for kind, fields in used.items():
        assert set(fields) <= set(KUBERAY_FIELDS[kind].split()), kind


@every_kuberay_file
def test_a_kuberay_cluster_asks_for_the_token_and_its_head_does_no_work(path):
    spec = ray_cluster_spec(path)
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert spec["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
    (workers,) = spec["workerGroupSpecs"]
    if "enableInTreeAutoscaling" in spec:
        assert workers["minReplicas"] == workers["replicas"] == 0 < workers["maxReplicas"]
    else:
        assert workers["minReplicas"] == workers["replicas"] == workers["maxReplicas"]


@every_kuberay_file
def test_ray_s_autoscaler_reads_what_the_workers_of_a_kuberay_cluster_have(path):
    spec = ray_cluster_spec(path)
    understood = _derive_autoscaling_config_from_ray_cr(
        {"metadata": {"name": "ray-trash", "namespace": "default"}, "spec": spec}
    )
    head, worker = understood["available_node_types"].values()
    assert head["resources"]["CPU"] == 0
    (group,) = spec["workerGroupSpecs"]
    assert worker["max_workers"] == group["maxReplicas"]
    assert worker["resources"]["CPU"] >= 4
    assert worker["resources"].get("GPU", 0) == int("gpu" in group["groupName"])


@every_kuberay_file
def test_every_kuberay_pod_is_bounded_and_without_privileges(path):
    spec, pods = ray_cluster_spec(path), pod_specs(path)
    assert len(pods) == (3 if load(path)["kind"] == "RayJob" else 2)
    grows = spec.get("enableInTreeAutoscaling", False)
    # The autoscaler beside the head asks Kubernetes for workers; nobody else has anything to say there.
    assert [pod.get("automountServiceAccountToken", True) for pod in pods] == [grows, False, False][: len(pods)]
    if grows:
        assert spec["autoscalerOptions"]["securityContext"] == pods[0]["containers"][0]["securityContext"]
        assert set(spec["autoscalerOptions"]["resources"]["limits"]) == {"cpu", "memory"}
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert set(container["resources"]["limits"]) >= {"cpu", "memory"}


def test_spot_nodes_of_kubernetes_take_workers_only():
    _, worker, _ = pods = pod_specs(CLUSTERS / "kuberay-sweep.yaml")
    ((key, value),) = worker["nodeSelector"].items()
    assert worker["tolerations"] == [{"key": key, "operator": "Equal", "value": value, "effect": "NoSchedule"}]
    assert not [pod for pod in pods if pod is not worker and ("nodeSelector" in pod or "tolerations" in pod)]


@pytest.mark.parametrize(("name", "command"), [("kuberay-job.yaml", "run"), ("kuberay-sweep.yaml", "tune")])
def test_a_kuberay_job_ends_its_cluster_and_runs_this_project(name, command):
    spec = load(CLUSTERS / name)["spec"]
    assert spec["entrypoint"].startswith(f"ray-trash {command} ")
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
