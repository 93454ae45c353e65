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
from ray_trash.config import parse_override, serve_config
from ray_trash.config.yaml import from_yaml
from ray_trash.serve.telemetry import Telemetry
from tests.unit.serve.backends import CARD

FOLDER = Path(__file__).parents[2] / "clusters" / "endpoint"
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
