"""Commands on a cluster that has no machine until one is asked for."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from ray_trash.config.yaml import from_yaml
from tests.e2e.cluster import RAY, Cluster, free_port, running_cluster
from tests.e2e.command import kill, run, start, wait_until
from tests.models import write_model
from tests.photos import make_photos
from tests.runs import FOUR_TRIALS, epochs, error_line, settings, write_config

SERVE_CONFIG = Path(__file__).parents[2] / "configs" / "serve-deploy.yaml"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster(grows_to=2) as running:
        yield running


def test_train_evaluate_and_score_have_machines_started_and_leave_none_behind(cluster: Cluster, tmp_path: Path) -> None:
    photos = make_photos(tmp_path / "photos", 12)
    config = write_config(tmp_path, photos)
    killed = start("train", config, *settings(train__workers=64), **cluster.joined)
    wait_until(lambda: cluster.nodes() > 1 or killed.poll() is not None, timeout_s=120, what="a machine")
    kill(killed)
    _wait_for_their_end(cluster)

    trained = run("train", config, *settings(train__workers=2), **cluster.joined)
    assert trained.returncode == 0, trained.stderr
    assert "waiting for machines that the autoscaler was asked for, 0 s of at most 600 s: train.work" in trained.stderr
    assert epochs(tmp_path / "runs" / "tiny") == [1, 2, 3]
    _wait_for_their_end(cluster)

    checkpoint = tmp_path / "runs" / "tiny" / "checkpoint"
    evaluation = ["evaluate", checkpoint, "--data", photos, "--split", "all", "--out", tmp_path / "evaluation"]
    evaluated = run(*evaluation, **cluster.joined)
    assert evaluated.returncode == 0, evaluated.stderr
    assert json.loads((tmp_path / "evaluation" / "evaluation.json").read_text())["n"] == 36
    refused = run(*evaluation, "--workers", "9", "--wait-for-workers-s", "5", RAY_TRASH_TRACEBACK="", **cluster.joined)
    assert refused.returncode == 6
    assert error_line(refused.stderr).endswith("workers (waited 5 s for machines)")
    _wait_for_their_end(cluster)

    scored = run("score", checkpoint, photos, "--out", tmp_path / "scores.parquet", **cluster.joined)
    assert scored.returncode == 0, scored.stderr
    assert pq.read_table(tmp_path / "scores.parquet")["error_code"].null_count == 36
    _wait_for_their_end(cluster)


def test_a_sweep_has_machines_started_for_its_trials_and_leaves_none_behind(cluster: Cluster, tmp_path: Path) -> None:
    config = write_config(tmp_path, make_photos(tmp_path / "photos", 12), FOUR_TRIALS)
    tuned = run("tune", config, *settings(train__epochs=1, train__workers=1), **cluster.joined)
    assert tuned.returncode == 0, tuned.stderr
    assert "waiting for machines that the autoscaler was asked for, 0 s of at most 600 s: " in tuned.stderr
    # Both machines, though the first to join has room enough to begin.
    assert "; 4 at a time" in tuned.stderr, tuned.stderr
    rows = json.loads((tmp_path / "runs" / "tiny" / "trials.json").read_text())
    assert [row["status"] for row in rows] == ["done"] * 4
    _wait_for_their_end(cluster)


def test_a_deployment_waits_for_machines_says_so_and_leaves_none_behind(cluster: Cluster, tmp_path: Path) -> None:
    config = from_yaml(SERVE_CONFIG.read_text(), SERVE_CONFIG.name)
    config["http_options"]["port"] = free_port()
    (application,) = config["applications"]
    (models,) = application["deployments"]
    # More than the processors of one machine, and machines come one by one.
    application["args"]["replicas"] = 3
    models["user_config"]["checkpoint"] = str(tmp_path / "model")
    write_model(tmp_path / "model")
    (tmp_path / "serve.yaml").write_text(json.dumps(config))
    deploy = [RAY.parent / "serve", "deploy", "--address", cluster.jobs_at, tmp_path / "serve.yaml"]
    subprocess.run(list(map(str, deploy)), env={**os.environ, **cluster.joined}, check=True, timeout=120)

    def status() -> int:
        return run("deployment", "status", **cluster.joined).returncode

    assert status() == 6
    wait_until(lambda: status() == 0, timeout_s=300, what="a deployment that serves")
    assert cluster.nodes() == 3
    down = run("deployment", "down", **cluster.joined)
    assert down.returncode == 0, down.stderr
    _wait_for_their_end(cluster)


def _wait_for_their_end(cluster: Cluster) -> None:
    # What a killed process asked for expires, half a minute of idleness follows, and the orderly end of each node.
    wait_until(lambda: cluster.nodes() == 1, timeout_s=150, what="the machines to be given back")
