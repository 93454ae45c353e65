"""What a process of an endpoint loads before it can begin."""

from __future__ import annotations

from tests.processes import loaded_by


def test_the_process_that_takes_requests_loads_no_torch() -> None:
    assert "torch" not in loaded_by("ray_trash.serve.app", "ray_trash.serve.endpoint")
