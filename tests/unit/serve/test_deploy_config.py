"""The file for `serve deploy` is one that Ray Serve takes, and its application is one that can be built."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from ray_trash.config import serve_config
from ray_trash.config.yaml import from_yaml
from ray_trash.errors import ConfigError

PATH = Path(__file__).parents[3] / "configs" / "serve-deploy.yaml"


# Ray's own code warns when it is imported.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_file_for_serve_deploy_names_an_application_with_settings_that_are_known() -> None:
    from ray.serve.schema import ServeDeploySchema

    deployed = ServeDeploySchema.model_validate(from_yaml(PATH.read_text(), PATH.name))
    (application,) = deployed.applications
    module, _, builder = application.import_path.partition(":")
    assert callable(getattr(importlib.import_module(module), builder))
    settings = {f"serve.{key}": value for key, value in (application.args or {}).items()}
    assert serve_config({}, settings).replicas == 1
    (models,) = application.deployments
    assert (models.name, set(models.user_config or {})) == ("Models", {"checkpoint"})
    assert deployed.http_options.host == "127.0.0.1"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("key", ["keep_alive_s", "header_timeout_s", "drain_s"])
def test_a_key_that_only_the_command_obeys_is_refused_with_what_does_the_same(key: str) -> None:
    from ray_trash.serve.app import build

    with pytest.raises(ConfigError, match=rf"serve\.{key}: has no effect behind Ray's own proxy; "):
        build({key: 75})
