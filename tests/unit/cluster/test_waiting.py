"""Waiting that ends."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from typing import Any

import pytest
import ray
from ray.exceptions import GetTimeoutError

from ray_trash.cluster.tasks import run_tasks
from ray_trash.cluster.waiting import fetch, fetch_all
from ray_trash.errors import ClusterError

SCRIPT = """
import time
from ray_trash.cluster.waiting import exit_if_stuck
with exit_if_stuck(60):
    pass
print("in time", flush=True)
with exit_if_stuck(0.2):
    time.sleep(60)
"""


def test_work_that_takes_too_long_ends_its_process_and_shows_where() -> None:
    ended = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 1
    assert ended.stdout == "in time\n"
    assert "Timeout" in ended.stderr
    assert 'File "<string>"' in ended.stderr


def test_what_does_not_come_in_time_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_late(reference: Any, *, timeout: float) -> None:
        raise GetTimeoutError(f"{timeout} s are over")

    monkeypatch.setattr(ray, "get", too_late)
    reference: Any = "reference"
    with pytest.raises(ClusterError, match=r"waited 0\.5 s for an answer in vain"):
        fetch(reference, what="an answer", timeout_s=0.5)


class Tasks:
    """Stands for Ray: of some tasks one ends at every wait, and the last ones perhaps never."""

    def __init__(self, n_ending: int) -> None:
        self.timeouts_s: list[float] = []
        self._n_ending = n_ending

    def wait(self, waiting: list[str], *, timeout: float) -> tuple[list[str], list[str]]:
        self.timeouts_s.append(timeout)
        n = 1 if len(self.timeouts_s) <= self._n_ending else 0
        return waiting[len(waiting) - n :], waiting[: len(waiting) - n]

    def get(self, references: list[str], *, timeout: float) -> list[str]:
        return [f"result of {reference}" for reference in references]


@pytest.mark.parametrize("n_ending", [3, 2])
def test_a_wait_for_tasks_begins_anew_whenever_one_ends(n_ending: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = Tasks(n_ending)
    monkeypatch.setattr(ray, "wait", tasks.wait)
    monkeypatch.setattr(ray, "get", tasks.get)
    references: list[Any] = ["a", "b", "c"]
    if n_ending == 3:
        assert fetch_all(references, what="tasks", timeout_s=7) == ["result of a", "result of b", "result of c"]
    else:
        with pytest.raises(ClusterError, match="waited 7 s for tasks in vain"):
            fetch_all(references, what="tasks", timeout_s=7)
    assert tasks.timeouts_s == [7, 7, 7]


def test_a_signal_that_comes_with_an_answer_ends_the_wait_as_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def both(waiting: list[str], *, timeout: float) -> None:
        raise SystemError("returned a result with an exception set") from SystemExit(143)

    monkeypatch.setattr(ray, "wait", both)
    references: list[Any] = ["a"]
    with pytest.raises(SystemExit):
        fetch_all(references, what="tasks", timeout_s=7)


class FewTasks:
    """Stands for Ray: of what was started, the last one ends first."""

    def __init__(self) -> None:
        self.running: list[str] = []
        self.most = 0

    def start(self, name: str) -> list[str]:
        self.running.append(name)
        self.most = max(self.most, len(self.running))
        return [name, f"more of {name}"]

    def wait(self, waiting: list[str], *, timeout: float) -> tuple[list[str], list[str]]:
        ended = self.running.pop()
        return [ended], [name for name in waiting if name != ended]


def test_tasks_run_a_few_at_a_time_and_come_as_they_end_with_their_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = FewTasks()
    monkeypatch.setattr(ray, "wait", tasks.wait)
    starts = [partial(tasks.start, name) for name in "abcd"]
    found = list(run_tasks(starts, at_once=2, what="tasks"))
    assert found == [(1, ["b", "more of b"]), (2, ["c", "more of c"]), (3, ["d", "more of d"]), (0, ["a", "more of a"])]
    assert tasks.most == 2
    assert list(run_tasks([], at_once=2, what="tasks")) == []
