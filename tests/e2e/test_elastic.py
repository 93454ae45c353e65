"""Machines go with notice and without, and come: one run goes on through all of it, and one that cannot says so."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cluster import Cluster, Node, running_cluster
from tests.e2e.command import kill, start, wait_until
from tests.photos import make_photos
from tests.runs import epochs, error_line, settings, write_config

N_EPOCHS = 60


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[Cluster, Node, Node]]:
    with running_cluster(head_cpus=0) as running:
        yield running, running.add_node(), running.add_node()


def stretches(run: Path) -> list[dict[str, Any]]:
    path = run / "run.json"
    return json.loads(path.read_text()).get("stretches", []) if path.exists() else []


def wait_for_stretch(number: int, run: Path, child: subprocess.Popen[str], *, steps: int = 1) -> None:
    """Wait until the workers have started so often, and trained an epoch since."""

    def trained() -> bool:
        found = stretches(run)
        return len(found) >= number and len(epochs(run)) >= found[number - 1]["epoch"] + steps

    wait_until(lambda: trained() or child.poll() is not None, timeout_s=400, what=f"the workers' start {number}")
    assert child.poll() is None, child.communicate()[1]


def test_a_run_goes_on_through_machines_that_go_and_come_and_one_with_a_fixed_number_says_what_it_waits_for(
    cluster: tuple[Cluster, Node, Node], tmp_path: Path
) -> None:
    running, first, second = cluster
    photos, run = make_photos(tmp_path / "photos", 12), tmp_path / "runs" / "tiny"
    config = write_config(tmp_path, photos)
    changes = {"train__workers": "[1,2]", "train__batch_size_per_worker": 4, "train__epochs": N_EPOCHS}
    child = start("train", config, *settings(**changes), **running.joined)
    try:
        wait_for_stretch(1, run, child)
        running.drain(first)
        wait_for_stretch(2, run, child)
        third = running.add_node()
        wait_for_stretch(3, run, child)
        second.power_off()
        wait_for_stretch(4, run, child)
    finally:
        kill(child)
    done = stretches(run)
    assert [stretch["workers"] for stretch in done] == [2, 1, 2, 1]
    assert [stretch["why"] for stretch in done] == [
        "the run was started",
        "1 machine being taken away",
        "room for 2 workers",
        "1 machine gone",
    ]
    assert [stretch["steps_repeated"] for stretch in done[1:3]] == [0, 0]
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == list(range(1, len(records) + 1))
    assert len({(record["steps"], record["val_n"]) for record in records}) == 1

    fixed = {"train__workers": 1, "train__epochs": 500, "train__wait_for_workers_s": 5, "name": "fixed"}
    child = start("train", config, *settings(**fixed), **running.joined, RAY_TRASH_TRACEBACK="")
    wait_for_stretch(1, tmp_path / "runs" / "fixed", child)
    third.power_off()
    _, err = child.communicate(timeout=300)
    assert child.returncode == 6, err
    assert "waiting for machines to join, 0 s of at most 5 s" in err
    assert "--resume" in error_line(err)
