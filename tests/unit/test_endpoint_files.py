"""The files that operate an endpoint: what they name exists, and Prometheus' own tests of the alerts hold."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ray_trash.arguments import build_parser
from ray_trash.cluster.environment import ENVIRONMENT
from ray_trash.config import parse_override, serve_config
from ray_trash.config.yaml import from_yaml
from ray_trash.serve.telemetry import Telemetry
from tests.unit.serve.backends import CARD

REPOSITORY = Path(__file__).parents[2]
FOLDER = REPOSITORY / "clusters" / "endpoint"
_SUFFIX = re.compile(r"_(total|bucket|sum|count)$")


def load(name: str) -> dict[str, Any]:
    return from_yaml((FOLDER / name).read_text(), name)


def parsed_serve(arguments: list[str]) -> Any:
    options = build_parser().parse_args(arguments)
    assert options.watch
    assert serve_config({}, dict(map(parse_override, options.set))).drain_s == 5
    return options


@pytest.mark.parametrize("name", ["alerts.yaml", "alerts-test.yaml", "dashboard.json"])
def test_every_metric_that_is_named_is_one_that_an_endpoint_has(name: str) -> None:
    telemetry = Telemetry()
    telemetry.show_model(CARD)
    has = set(re.findall(r"^# TYPE (\w+)", telemetry.text().decode(), re.MULTILINE))
    named = set(re.findall(r"\bray_trash_\w+", (FOLDER / name).read_text()))
    assert len(named) >= 5
    assert {metric for metric in named if metric not in has and _SUFFIX.sub("", metric) not in has} == set()


def test_the_alerts_fire_when_they_should_and_not_otherwise() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool, of Prometheus, is not installed")
    for what in (["check", "rules", "alerts.yaml"], ["test", "rules", "alerts-test.yaml"]):
        done = subprocess.run([promtool, *what], cwd=FOLDER, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr


def test_no_panel_of_the_dashboard_lies_on_another() -> None:
    panels = json.loads((FOLDER / "dashboard.json").read_text())["panels"]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(panels) >= 8
    assert all(target["expr"] for panel in panels for target in panel["targets"])


def test_the_service_runs_the_command_as_it_is_and_survives_its_end() -> None:
    unit = (FOLDER / "ray-trash.service").read_text()
    (command,) = re.findall(r"^ExecStart=\S+/ray-trash (.*)$", unit, re.MULTILINE)
    assert parsed_serve(shlex.split(command)).host == "127.0.0.1"
    settings = dict(re.findall(r"^(\w+)=(.*)$", unit, re.MULTILINE))
    assert (settings["Restart"], settings["NoNewPrivileges"]) == ("always", "yes")
    assert int(settings["TimeoutStopSec"]) >= 20


def test_the_compose_file_opens_the_endpoint_to_this_machine_and_keeps_its_keys_in_files() -> None:
    tree = load("compose.yaml")
    endpoint = tree["services"]["endpoint"]
    program, *arguments = endpoint["command"]
    assert program == "ray-trash"
    settings = serve_config({}, dict(map(parse_override, parsed_serve(arguments).set)))
    files = {settings.api_key_file, settings.operator_key_file}
    assert files == {f"/run/secrets/{name}" for name in tree["secrets"]}
    assert all(port.startswith("127.0.0.1:") for port in endpoint["ports"])
    assert endpoint["read_only"]
    assert (FOLDER / endpoint["build"]["context"] / endpoint["build"]["dockerfile"]).is_file()


@pytest.fixture(scope="module")
def on_kubernetes() -> dict[str, Any]:
    """The objects of the Kubernetes file, by kind."""
    documents = re.split(r"^---$", (FOLDER / "kuberay-service.yaml").read_text(), flags=re.MULTILINE)
    parsed = [from_yaml(text, "kuberay-service.yaml") for text in documents]
    return {document["kind"]: document for document in parsed}


# Ray's own code warns when it is imported.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_ray_service_deploys_an_application_that_scales_and_whose_limits_its_proxies_know(
    on_kubernetes: dict[str, Any],
) -> None:
    from ray.serve.schema import ServeDeploySchema

    from ray_trash.serve.app import OF_THE_PROXY

    spec = on_kubernetes["RayService"]["spec"]
    deployed = ServeDeploySchema.model_validate(from_yaml(spec["serveConfigV2"], "serveConfigV2"))
    assert deployed.http_options.keep_alive_timeout_s > 60
    (application,) = deployed.applications
    assert not OF_THE_PROXY.keys() & application.args.keys()
    settings = serve_config({}, {f"serve.{key}": value for key, value in application.args.items()})
    assert 1 < settings.replicas < (settings.max_replicas or 0)
    models, gateway = application.deployments
    assert (models.name, gateway.name) == ("Models", "Gateway")
    (workers,) = spec["rayClusterConfig"]["workerGroupSpecs"]
    assert gateway.num_replicas == workers["minReplicas"] > 1
    assert settings.timeout_s < (deployed.http_options.request_timeout_s or 0.0)

    (container,) = workers["template"]["spec"]["containers"]
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    guide = (REPOSITORY / "docs" / "endpoint.md").read_text()
    for name in ("RAY_SERVE_FORCE_STOP_UNHEALTHY_REPLICAS", "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S"):
        assert environment[name] == ENVIRONMENT[name]
        assert f"{name}={ENVIRONMENT[name]} " in guide
    assert environment["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"] == "ray_trash.serve.proxy:middlewares"
    bounds = serve_config({}, dict(map(parse_override, environment["RAY_TRASH_PROXY"].split())))
    assert bounds.max_body_mib == settings.max_body_mib
    assert {"RAY_TRASH_API_KEY", "RAY_TRASH_OPERATOR_KEY"} <= environment.keys()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_ray_service_is_one_that_kuberay_and_ray_s_autoscaler_read(on_kubernetes: dict[str, Any]) -> None:
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    service = on_kubernetes["RayService"]
    assert service["apiVersion"] == "ray.io/v1"
    assert set(service["spec"]) == {
        "upgradeStrategy",
        "excludeHeadPodFromServeSvc",
        "serveConfigV2",
        "rayClusterConfig",
    }
    cluster = service["spec"]["rayClusterConfig"]
    assert cluster["authOptions"] == {"mode": "token"}
    found = _derive_autoscaling_config_from_ray_cr({"metadata": {"name": "a", "namespace": "b"}, "spec": cluster})
    head, worker = found["available_node_types"].values()
    assert head["resources"]["CPU"] == 0
    assert 1 < worker["min_workers"] < worker["max_workers"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
        assert set(container["resources"]["limits"]) >= {"cpu", "memory"}


def test_kubernetes_asks_who_answers_takes_workers_one_by_one_and_lets_in_the_ingress_alone(
    on_kubernetes: dict[str, Any],
) -> None:
    (workers,) = on_kubernetes["RayService"]["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    (container,) = workers["template"]["spec"]["containers"]
    (port,) = container["ports"]
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": port["name"]}
    assert "raylet_healthz" in container["livenessProbe"]["exec"]["command"][-1]
    budget = on_kubernetes["PodDisruptionBudget"]["spec"]
    assert budget == {"maxUnavailable": 1, "selector": {"matchLabels": {"ray.io/group": workers["groupName"]}}}
    (rule,) = on_kubernetes["NetworkPolicy"]["spec"]["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": port["containerPort"]}]
    assert all("namespaceSelector" in who for who in rule["from"])


def test_the_ingress_has_limits_and_offers_no_rollback(on_kubernetes: dict[str, Any]) -> None:
    ingress = on_kubernetes["Ingress"]
    prefix = "nginx.ingress.kubernetes.io/"
    limits = {key.removeprefix(prefix): value for key, value in ingress["metadata"]["annotations"].items()}
    assert limits["proxy-body-size"] == "64m"
    assert {"proxy-read-timeout", "proxy-request-buffering", "limit-connections"} <= limits.keys()
    (rule,) = ingress["spec"]["rules"]
    paths = {path["path"]: path for path in rule["http"]["paths"]}
    assert {path["pathType"] for path in paths.values()} == {"Exact"}
    assert "/v1/score" in paths
    assert not {"/v1/model/rollback", "/metrics"} & paths.keys()
    name = on_kubernetes["RayService"]["metadata"]["name"]
    backend = {"name": f"{name}-serve-svc", "port": {"number": 8000}}
    assert all(path["backend"]["service"] == backend for path in paths.values())
    assert ingress["spec"]["tls"]
