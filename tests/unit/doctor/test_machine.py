from __future__ import annotations

from importlib.metadata import version
from typing import Any

import pytest

from ray_trash.doctor.facts import Gpus, Space, unmet_requirements
from ray_trash.doctor.machine import clocks, judge_machines, same_versions
from tests.unit.doctor.machines import GIB, GOOD, a_machine


def test_of_a_good_machine_every_finding_is_ok_and_asks_for_nothing() -> None:
    findings = judge_machines([GOOD])
    assert {(one.status, one.advice) for one in findings} == {("ok", "")}
    assert len({one.check for one in findings}) == len(findings) == 7


@pytest.mark.parametrize(
    ("check", "status", "broken", "said", "advised"),
    [
        ("versions", "problem", {"unmet": ("torch is 2.9, needed is >=2.10",)}, "torch is 2.9", "pip install -U"),
        ("memory", "problem", {"memory_available": GIB // 2}, "512 MiB available", "end other programs"),
        ("memory", "warning", {"memory_available": 2 * GIB}, "2.0 GiB available", "smaller batches"),
        ("memory", "problem", {"memory_limit": GIB - 1}, "limit of this container", "more memory"),
        ("processors", "warning", {"quota_cpus": 0.5}, "0.5 processors' time", "one processor at least"),
        (
            "processors",
            "warning",
            {"bf16": "float32: the processor has AMX-BF16, this build of torch does not use it"},
            "does not use it",
            "oneDNN",
        ),
        ("shared memory", "problem", {"shared": Space("/dev/shm", 64 << 20, 64 << 20)}, "64 MiB", "--shm-size"),
        ("shared memory", "not checked", {"shared": None}, "no /dev/shm", ""),
        ("disk", "problem", {"scratch": Space("/tmp", 1000 * GIB, 40 * GIB)}, "95% full", "RAY_TMPDIR"),
        ("disk", "warning", {"scratch": Space("/tmp", 20 * GIB, 4 * GIB)}, "4.0 GiB free", "RAY_TMPDIR"),
        ("open files", "warning", {"open_files": 1024}, "1024 for a process", "ulimit -n 65536"),
        ("open files", "problem", {"open_files": 256}, "256 for a process", "ulimit -n 65536"),
        ("GPU", "problem", {"gpus": Gpus(2, 0, "535.1", "")}, "built for CPUs only", "built for CUDA"),
        (
            "GPU",
            "problem",
            {"gpus": Gpus(1, 1, "535.1", "12.8", "cuda:0: out of memory")},
            "out of memory",
            "nvidia-smi",
        ),
        ("GPU", "ok", {"gpus": Gpus(1, 1, "535.1", "12.8")}, "driver 535.1", ""),
    ],
)
def test_what_is_broken_on_a_machine_is_named_with_what_to_do(
    check: str, status: str, broken: dict[str, Any], said: str, advised: str
) -> None:
    found = next(one for one in judge_machines([a_machine(**broken)]) if one.check == check)
    assert found.status == status
    assert said in found.found
    assert advised in found.advice
    others = [one for one in judge_machines([a_machine(**broken)]) if one.check != check]
    assert {one.status for one in others} == {"ok"}


def test_of_many_machines_those_that_are_worst_are_named() -> None:
    machines = [GOOD, a_machine(machine="b", open_files=256), a_machine(machine="c")]
    found = next(one for one in judge_machines(machines) if one.check == "open files")
    assert (found.status, found.found) == ("problem", "b: 256 for a process; 2 others are better")


def test_machines_with_other_packages_do_not_make_a_cluster() -> None:
    other = a_machine(machine="b", python="3.11.9", versions={**GOOD.versions, "torch": "2.1"})
    found = same_versions([GOOD, other])
    assert (found.status, found.found) == (
        "problem",
        "torch is 2.0 here and 2.1 there; Python is 3.11.9 here and 3.12.1 there",
    )
    assert same_versions([GOOD, a_machine(machine="b")]).status == "ok"


@pytest.mark.parametrize(("skew_s", "status"), [(0.5, "ok"), (-4.0, "warning"), (900.0, "problem")])
def test_a_clock_that_is_off_is_named(skew_s: float, status: str) -> None:
    found = clocks([("a", 0.0), ("b", skew_s)])
    assert found.status == status
    assert status == "ok" or found.found.startswith("b is ")


def test_an_old_package_is_found_by_the_projects_own_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    assert unmet_requirements() == []
    versioned = lambda name: "2.9.1" if name == "torch" else version(name)  # noqa: E731
    monkeypatch.setattr("ray_trash.doctor.facts.version", versioned)
    assert unmet_requirements() == ["torch is 2.9.1, needed is >=2.10"]
    monkeypatch.setattr("platform.python_version", lambda: "3.10.2")
    assert unmet_requirements()[0] == "Python 3.10.2 is none of <3.14,>=3.11"
