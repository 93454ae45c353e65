"""All checks together, where Ray does not start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import ray_trash.doctor.run as run
from ray_trash.doctor.finding import Finding
from ray_trash.errors import ClusterError
from tests.unit.doctor.machines import GOOD


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def does_not_start(**_: Any) -> Any:
        raise ClusterError("Ray does not start on this machine: no ports")

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(run, "ray_session", does_not_start)
    monkeypatch.setattr(run, "check_engines", lambda: Finding("engines", "ok", "the same answer"))


@pytest.mark.usefixtures("without_ray")
def test_without_ray_everything_else_is_checked_and_what_is_not_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "gather", lambda: GOOD)
    found = {finding.check: finding for finding in run.examine(str(tmp_path))}
    assert (found["Ray"].status, found["memory"].status, found["storage"].status) == ("problem", "ok", "ok")
    assert {name for name, one in found.items() if one.status == "not checked"} == {"workers", "listeners"}


@pytest.mark.usefixtures("without_ray")
def test_a_machine_that_cannot_be_looked_at_hides_no_other_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks() -> Any:
        raise OSError("the driver is gone")

    monkeypatch.setattr(run, "gather", breaks)
    found = {finding.check: finding for finding in run.examine(str(tmp_path))}
    assert (found["machine"].status, found["storage"].status) == ("not checked", "ok")
    assert "the driver is gone" in found["machine"].found
