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
        n_before = len(list(tmp_path.iterdir()))
        (tmp_path / str(n_before)).touch()
        if n_before < n_losses:
            os._exit(1)
        return n_before

    assert fetch(task(die_some_times)(), what="a task that dies") == n_losses
