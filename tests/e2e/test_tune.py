"""A sweep as a child process: killed and gone on with, and with trials that have workers of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.cluster import Cluster
from tests.e2e.command import kill, run, start, wait_until
from tests.photos import make_photos
from tests.runs import epochs, settings, write_config

SWEEP = """
name: sweep
seed: 3
image: {size_px: 32, stored_short_side_px: 48}
model: {weights: none, frozen_stages: 5}
train: {workers: 1, epochs: 6, batch_size_per_worker: 8, learning_rate: 1.0e-3, select_by: val_loss}
tune:
  trials: 3
  max_concurrent_trials: 1
  scheduler: none
  search: grid
  verdict_seeds: 0
  space: {train.learning_rate: {choice: [2.0e-3, 3.0e-3]}}
data: {root: "REPLACED"}
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("photos"), 12)


def test_a_killed_sweep_goes_on_with_the_half_done_trial_and_repeats_no_finished_one(
    photos: Path, cluster: Cluster, tmp_path: Path
) -> None:
    arguments = ["tune", write_config(tmp_path, photos, SWEEP), "--resume"]
    sweep = tmp_path / "runs" / "sweep"
    child = start(*arguments, **cluster.joined)
    half_done = sweep / "trials" / "001"
    wait_until(lambda: len(epochs(half_done)) >= 2 or child.poll() is not None, timeout_s=360, what="trial 1")
    kill(child)
    before = {name: (sweep / "trials" / name / "metrics.jsonl").read_text() for name in ("000", "001")}
    attempt = json.loads((sweep / "trials" / "000" / "run.json").read_text())["attempt"]
    assert len(before["001"].splitlines()) < 6, "the kill came too late to show anything"
    finished = run(*arguments, **cluster.joined)
    assert finished.returncode == 0, finished.stderr
    assert json.loads((sweep / "trials" / "000" / "run.json").read_text())["attempt"] == attempt
    for name in ("000", "001", "002"):
        assert epochs(sweep / "trials" / name) == [1, 2, 3, 4, 5, 6]
    # What was trained before the kill was kept, not trained again: its times are the same to the last digit.
    assert (sweep / "trials" / "001" / "metrics.jsonl").read_text().startswith(before["001"])
    rows = json.loads((sweep / "trials.json").read_text())
    assert [(row["trial"], row["status"]) for row in rows] == [(0, "done"), (1, "done"), (2, "done")]


def test_trials_with_two_workers_each_take_turns_and_leave_nothing_behind(photos: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path, photos, SWEEP)
    changes = settings(train__workers=2, train__cpus_per_worker=0.5, train__epochs=2, tune__trials=2)
    finished = run("tune", config, *changes, "--set", "tune.scheduler=asha")
    assert finished.returncode == 0, finished.stderr
    sweep = tmp_path / "runs" / "sweep"
    rows = json.loads((sweep / "trials.json").read_text())
    assert [row["trial"] for row in rows] == [0, 1]
    assert rows[0]["status"] == "done"
    assert "2 workers on cpu each" in finished.stderr
    assert epochs(sweep / rows[0]["run"]) == [1, 2]
