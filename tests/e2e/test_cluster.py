"""Commands that join a cluster with token authentication: jobs, exit codes, and sweeps that are killed or have workers.

One file, so that all of them share one cluster.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cluster import Cluster, running_cluster
from tests.e2e.command import kill, run, start, wait_until
from tests.photos import make_photos
from tests.runs import epochs, error_line, settings, write_config

N_EPOCHS = 4
SWEEP = """
name: sweep
seed: 3
image: {size_px: 32, stored_short_side_px: 48}
augment: {preset: dihedral}
model: {weights: none, frozen_stages: 5}
train:
  workers: 1
  epochs: 4
  batch_size_per_worker: 8
  learning_rate: 1.0e-3
  select_by: val_loss
  precision: fp32
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
def cluster() -> Iterator[Cluster]:
    with running_cluster() as running:
        yield running


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("photos"), 12)


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ("train.epoch=3", 2, "did you mean train.epochs?"),
        ("train.workers=64", 6, "the cluster has"),
    ],
)
def test_a_mistake_before_and_after_rays_start_is_one_line_and_its_exit_code(
    change: str, code: int, words: str, photos: Path, cluster: Cluster, tmp_path: Path
) -> None:
    config = write_config(tmp_path, photos)
    result = run("train", config, "--set", change, RAY_TRASH_TRACEBACK="", **cluster.joined)
    assert result.returncode == code, result.stderr
    assert words in error_line(result.stderr)
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def laptop(tmp_path: Path, photos: Path) -> Path:
    """Lay out the folder of somebody who submits: a config that git does not keep, photos, a secret; no program."""
    folder = tmp_path / "laptop"
    (folder / "photos").mkdir(parents=True)
    write_config(folder, photos, storage=str(tmp_path / "runs"))
    (folder / ".gitignore").write_text("*.yaml\n")
    (folder / ".env").write_text("KEY=1")
    (folder / "photos" / "one.jpg").write_bytes(bytes(10))
    return folder


def test_a_submitted_run_ends_as_it_would_here_and_says_what_was_sent(
    cluster: Cluster, laptop: Path, tmp_path: Path
) -> None:
    good = cluster.submit(laptop, "run", "tiny.yaml", *settings(train__epochs=1))
    assert good.returncode == 0, good.stderr
    assert (tmp_path / "runs" / "tiny" / "evaluation.json").exists()
    outcome = json.loads(good.stdout)
    assert (outcome["status"], outcome["exit_code"]) == ("succeeded", 0)
    assert "tiny.yaml: sent, as the command names it, though `*.yaml` in .gitignore hides it" in good.stderr
    assert ".env (secrets)" in good.stderr
    printed = [line.split()[:2] for line in good.stderr.splitlines()]
    assert printed.count(["the", "evaluation"]) == 1, good.stderr


def test_a_submitted_command_that_fails_gives_its_own_exit_code(cluster: Cluster, laptop: Path, tmp_path: Path) -> None:
    diverged = cluster.submit(laptop, "train", "tiny.yaml", *settings(train__learning_rate=1e30), "--overwrite")
    assert diverged.returncode == 5, diverged.stderr
    assert json.loads(diverged.stdout)["exit_code"] == 5
    assert "diverged" in error_line(diverged.stderr)
    missing = cluster.submit(laptop, "audit", "/nowhere/photos")
    assert missing.returncode == 3, missing.stderr
    bad = cluster.submit(laptop, "run", "tiny.yaml", *settings(train__epoch=1))
    assert bad.returncode == 2
    assert "did you mean train.epochs?" in error_line(bad.stderr)
    (tmp_path / "other").write_text(secrets.token_hex(32))
    stranger = cluster.submit(laptop, "audit", "/nowhere", RAY_AUTH_TOKEN_PATH=str(tmp_path / "other"))
    assert stranger.returncode == 6
    assert "the one sent is another" in error_line(stranger.stderr)


def test_ctrl_c_leaves_a_submitted_job_running_and_says_how_to_stop_it(
    cluster: Cluster, laptop: Path, tmp_path: Path
) -> None:
    child = cluster.start_submit(laptop, "train", "tiny.yaml", *settings(train__epochs=200))
    metrics = tmp_path / "runs" / "tiny"
    wait_until(lambda: bool(epochs(metrics)) or child.poll() is not None, timeout_s=240, what="an epoch")
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    before = len(epochs(metrics))
    wait_until(lambda: len(epochs(metrics)) > before, timeout_s=120, what="an epoch after Ctrl-C")
    (stop,) = re.findall(r"To stop it: (RAY_API_SERVER_ADDRESS=\S+ ray job stop \S+)$", err, re.MULTILINE)
    stopped = subprocess.run(
        stop, shell=True, env={**os.environ, **cluster.joined}, capture_output=True, text=True, timeout=120, check=False
    )
    assert stopped.returncode == 0, stopped.stderr


@pytest.fixture(scope="module")
def killed(
    photos: Path, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, str], dict[str, Any]]:
    """Kill a sweep within its second trial, and go on with it.

    Returns the sweep, and what the first two trials had at the kill: their metrics, and the first one's record.
    """
    folder = tmp_path_factory.mktemp("killed")
    arguments = ["tune", write_config(folder, photos, SWEEP), "--resume"]
    sweep = folder / "runs" / "sweep"
    child = start(*arguments, **cluster.joined)
    half_done = sweep / "trials" / "001"
    wait_until(lambda: bool(epochs(half_done)) or child.poll() is not None, timeout_s=360, what="trial 1")
    kill(child)
    before = {name: (sweep / "trials" / name / "metrics.jsonl").read_text() for name in ("000", "001")}
    first = json.loads((sweep / "trials" / "000" / "run.json").read_text())
    finished = run(*arguments, **cluster.joined)
    assert finished.returncode == 0, finished.stderr
    return sweep, before, first


def test_a_killed_sweep_goes_on_with_the_half_done_trial_and_repeats_no_finished_one(
    killed: tuple[Path, dict[str, str], dict[str, Any]],
) -> None:
    sweep, before, first = killed
    assert len(before["001"].splitlines()) < N_EPOCHS, "the kill came too late to show anything"
    assert json.loads((sweep / "trials" / "000" / "run.json").read_text())["attempt"] == first["attempt"]
    for name in ("000", "001", "002"):
        assert epochs(sweep / "trials" / name) == list(range(1, N_EPOCHS + 1))
    # What was trained before the kill was kept, not trained again: its times are the same to the last digit.
    assert (sweep / "trials" / "001" / "metrics.jsonl").read_text().startswith(before["001"])
    rows = json.loads((sweep / "trials.json").read_text())
    assert [(row["trial"], row["status"]) for row in rows] == [(0, "done"), (1, "done"), (2, "done")]


@pytest.fixture(scope="module")
def with_workers(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sweep with two workers a trial, on the same photos and in batches as large, on a Ray of its own."""
    folder = tmp_path_factory.mktemp("with-workers")
    changes = settings(train__workers=2, train__cpus_per_worker=0.5, train__batch_size_per_worker=4, tune__trials=2)
    config = write_config(folder, photos, SWEEP)
    finished = run("tune", config, *changes, "--set", "tune.scheduler=asha")
    assert finished.returncode == 0, finished.stderr
    assert "2 workers on cpu each" in finished.stderr
    return folder / "runs" / "sweep"


def test_trials_with_two_workers_each_take_turns_and_leave_nothing_behind(with_workers: Path) -> None:
    rows = json.loads((with_workers / "trials.json").read_text())
    assert [row["trial"] for row in rows] == [0, 1]
    assert rows[0]["status"] == "done"
    assert epochs(with_workers / rows[0]["run"]) == list(range(1, N_EPOCHS + 1))


def test_two_workers_validate_every_photo_once_and_agree_with_one(
    with_workers: Path, killed: tuple[Path, dict[str, str], dict[str, Any]]
) -> None:
    audit = json.loads((with_workers / "audit.json").read_text())
    one, two = ([json.loads(line) for line in metrics_of_the_first(sweep)] for sweep in (killed[0], with_workers))
    assert len(one) == len(two) == N_EPOCHS
    for record_of_one, record_of_two in zip(one, two, strict=True):
        assert record_of_one["val_n"] == record_of_two["val_n"] == audit["splits"]["val"]["n"]
        # The same global batches and, with every stage frozen, the same statistics: one head, up to rounding.
        for name in ("train_loss", "val_loss"):
            assert record_of_two[name] == pytest.approx(record_of_one[name], rel=1e-4)


def metrics_of_the_first(sweep: Path) -> list[str]:
    return (sweep / "trials" / "000" / "metrics.jsonl").read_text().splitlines()
