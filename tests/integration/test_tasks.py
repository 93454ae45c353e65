"""Tasks whose processes go."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ray_trash.cluster.tasks import task
from ray_trash.cluster.waiting import fetch

pytestmark = pytest.mark.usefixtures("ray_cluster")


def test_a_task_is_done_again_more_often_than_a_run_loses_machines(tmp_path: Path) -> None:
    n_losses = 4

    def die_some_times() -> int:
        here = tmp_path / str(len(list(tmp_path.iterdir())))
        here.touch()
        if len(list(tmp_path.iterdir())) <= n_losses:
            os._exit(1)
        return int(here.name)

    assert fetch(task(die_some_times)(), what="a task that dies") == n_losses
