"""What a new process loads, which is most of how long it takes to begin."""

from __future__ import annotations

import pytest

from tests.processes import loaded_by


@pytest.mark.parametrize(
    ("modules", "left_out"),
    [
        pytest.param(["ray_trash.config", "ray_trash.cli"], {"ray", "torch", "PIL"}, id="reading a config"),
        pytest.param(["ray_trash.run"], {"ray", "pandas", "optuna"}, id="a run without a sweep or a cluster"),
        pytest.param(["ray_trash.tune.space"], {"ray", "torch", "optuna"}, id="choosing points"),
        pytest.param(["ray_trash.serve.app", "ray_trash.serve.endpoint"], {"torch"}, id="taking requests"),
        pytest.param(["ray_trash.serve.client"], {"ray", "torch", "numpy"}, id="the client"),
    ],
)
def test_a_process_loads_nothing_that_it_has_no_use_for(modules: list[str], left_out: set[str]) -> None:
    assert not left_out & loaded_by(*modules)
