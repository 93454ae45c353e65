"""Machines go with notice and without, and come: one run goes on through all of it, and one that cannot says so."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cluster import Cluster, Node, running_cluster
from tests.e2e.command import kill, start, wait_until
from tests.photos import make_photos
from tests.runs import epochs, error_line, settings, write_config

ELASTIC = {"train__workers": "[1,2]", "train__batch_size_per_worker": 4, "train__epochs": 60}


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


def test_workers_on_a_machine_that_is_taken_away_save_and_fewer_go_on_with_nothing_trained_twice(
    cluster: tuple[Cluster, Node, Node], tmp_path: Path
) -> None:
    running, first, _ = cluster
    run = tmp_path / "runs" / "tiny"
    child = start("train", _elastic(tmp_path), *settings(**ELASTIC), **running.joined)
    try:
        wait_for_stretch(1, run, child)
        running.drain(first)
        wait_for_stretch(2, run, child)
    finally:
        kill(child)
    done = stretches(run)
    assert [stretch["workers"] for stretch in done] == [2, 1]
    assert [stretch["why"] for stretch in done] == ["the run was started", "1 machine being taken away"]
    assert done[1]["steps_repeated"] == 0
    _require_every_epoch_once(run)


@pytest.mark.skipif((os.cpu_count() or 1) < 4, reason="nodes join in minutes where they share fewer than 4 processors")
def test_a_run_goes_on_when_machines_come_and_die_and_one_with_a_fixed_number_says_what_it_waits_for(
    cluster: tuple[Cluster, Node, Node], tmp_path: Path
) -> None:
    running, _, second = cluster
    config, run = _elastic(tmp_path), tmp_path / "runs" / "tiny"
    child = start("train", config, *settings(**ELASTIC), **running.joined)
    try:
        wait_for_stretch(1, run, child)
        third = running.add_node()
        wait_for_stretch(2, run, child)
        second.power_off()
        wait_for_stretch(3, run, child)
    finally:
        kill(child)
    done = stretches(run)
    assert [stretch["workers"] for stretch in done] == [1, 2, 1]
    assert [stretch["why"] for stretch in done] == ["the run was started", "room for 2 workers", "1 machine gone"]
    assert done[1]["steps_repeated"] == 0
    _require_every_epoch_once(run)

    fixed = {"train__workers": 1, "train__epochs": 500, "train__wait_for_workers_s": 5, "name": "fixed"}
    child = start("train", config, *settings(**fixed), **running.joined, RAY_TRASH_TRACEBACK="")
    wait_for_stretch(1, tmp_path / "runs" / "fixed", child)
    third.power_off()
    _, err = child.communicate(timeout=300)
    assert child.returncode == 6, err
    assert "waiting for machines to join, 0 s of at most 5 s" in err
    assert "--resume" in error_line(err)


def _elastic(folder: Path) -> Path:
    return write_config(folder, make_photos(folder / "photos", 12))


def _require_every_epoch_once(run: Path) -> None:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == list(range(1, len(records) + 1))
    assert len({(record["steps"], record["val_n"]) for record in records}) == 1
