from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from ray_trash.cluster.carry import Carried
from ray_trash.doctor.engines import check_engines
from ray_trash.doctor.finding import Finding, checked
from ray_trash.doctor.places import check_storage
from ray_trash.errors import ClusterError, StorageError
from ray_trash.model.engine import EnginePlan


def test_a_check_that_does_not_end_is_given_up_and_says_so() -> None:
    never = threading.Event()

    def waits() -> Finding:
        never.wait()
        return Finding("slow", "ok", "")

    found = checked("slow", waits, timeout_s=0.01)
    never.set()
    assert found == Finding("slow", "not checked", "no answer within 0.01 s")


def test_a_check_that_fails_is_a_finding_and_hides_no_other() -> None:
    def breaks() -> Finding:
        raise KeyError("odd")

    def finds() -> Finding:
        raise ClusterError("no machine has room")

    assert checked("odd", breaks, timeout_s=5).found == "the check itself failed: KeyError: 'odd'"
    found = checked("room", finds, timeout_s=5, late="problem", advice="wait")
    assert found == Finding("room", "problem", "no machine has room", "wait")


def nowhere(works: Sequence[Callable[[], Carried[str]]]) -> list[tuple[str, Carried[str]]]:
    return [(f"machine {number}", work()) for number, work in enumerate(works)]


def test_a_place_for_runs_is_tried_from_every_machine_and_left_as_it_was(tmp_path: Path) -> None:
    there = tmp_path / "runs"
    there.mkdir()
    found = check_storage(str(there), 2, nowhere)
    assert (found.status, found.found) == ("ok", f"{there}: written, renamed, read and removed from 2 machines")
    assert list(there.iterdir()) == []
    assert check_storage(str(tmp_path / "new"), 0, nowhere).status == "ok"
    assert not (tmp_path / "new").exists()


def test_a_place_that_takes_no_file_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    found = check_storage(str(tmp_path / "runs"), 0, nowhere)
    assert found.status == "problem"
    assert "cannot write" in found.found
    assert check_storage("gopher://runs", 0, nowhere).status == "problem"


def test_a_place_that_is_another_one_on_another_machine_is_a_problem(tmp_path: Path) -> None:
    def writes_elsewhere(works: Sequence[Any]) -> list[tuple[str, Carried[str]]]:
        return [("far", Carried("machine-0")) for _ in works]

    def reads_elsewhere(works: Sequence[Any]) -> list[tuple[str, Carried[str]]]:
        return [("far", Carried(None, StorageError("does not see what another machine wrote"))) for _ in works]

    for elsewhere in (writes_elsewhere, reads_elsewhere):
        found = check_storage(str(tmp_path), 1, elsewhere)
        assert found.status == "problem"
        assert "far" in found.found
        assert list(tmp_path.iterdir()) == []


class _Drifted:
    def probabilities(self, photos: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.full((len(photos), 6), 1 / 6, np.float32)


def test_all_engines_of_this_machine_agree() -> None:
    found = check_engines()
    assert found.status == "ok", found
    assert "torch float32 on cpu" in found.found


def test_an_engine_that_answers_otherwise_or_does_not_start_is_named() -> None:
    found = check_engines(lambda plan, network: _Drifted())
    assert found.status == "problem"
    assert "torch float32 on cpu" in found.found

    def breaks(plan: EnginePlan, network: Any) -> Any:
        raise RuntimeError("no kernel\nand more")

    found = check_engines(breaks)
    assert (found.status, "torch float32 on cpu does not start: no kernel" in found.found) == ("problem", True)


@pytest.mark.parametrize("able", [True, False])
def test_the_command_says_a_line_a_check_and_ends_with_the_clusters_exit_code_on_a_problem(
    able: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import json

    import ray_trash.doctor.run as run
    from ray_trash.cli import main

    findings = [Finding("token", "ok", "mode 0600"), Finding("disk", "warning", "4.0 GiB free", "free some")]
    findings += [] if able else [Finding("engines", "problem", "openvino differs", "update it")]
    monkeypatch.setattr(run, "examine", lambda storage: iter(findings))
    assert main(["doctor", "--json"]) == (0 if able else 6)
    said = capfd.readouterr()
    assert json.loads(said.out) == {"able": able, "findings": [vars(one) for one in findings]}
    lines = said.err.splitlines()
    assert lines[0].split() == ["ok", "token", "mode", "0600"]
    assert lines[-1] == ("0 problems, 1 warning, 1 ok" if able else "1 problem, 1 warning, 1 ok")
