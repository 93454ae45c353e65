"""Jobs submitted to a cluster with token authentication, on this machine."""

from __future__ import annotations

import secrets
from pathlib import Path

from tests.e2e.cluster import Cluster
from tests.photos import make_photos
from tests.runs import settings, write_config


def test_a_submitted_run_ends_right_and_a_bad_config_or_token_fails_the_job(cluster: Cluster, tmp_path: Path) -> None:
    config = write_config(tmp_path, make_photos(tmp_path / "photos", 12))
    good = cluster.submit("ray-trash", "run", config, *settings(train__epochs=1))
    assert good.returncode == 0, good.stdout + good.stderr
    assert (tmp_path / "runs" / "tiny" / "evaluation.json").exists()
    bad = cluster.submit("ray-trash", "run", config, *settings(train__epoch=1))
    assert bad.returncode == 1
    assert "did you mean train.epochs?" in bad.stdout + bad.stderr
    (tmp_path / "other").write_text(secrets.token_hex(32))
    stranger = cluster.submit("ray-trash", "--version", RAY_AUTH_TOKEN_PATH=str(tmp_path / "other"))
    assert stranger.returncode != 0
    assert "token" in (stranger.stdout + stranger.stderr).lower()
