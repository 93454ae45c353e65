"""A run of few photos needs no cluster, whatever it is that it does: read, audit, train, evaluate, report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ray_trash.cluster.here import is_connected
from ray_trash.config import Config, load_config
from ray_trash.run import run_all
from ray_trash.terminal.say import Terminal
from ray_trash.train.photos import PreparedRun, needs_ray
from ray_trash.train.run import prepare_run
from tests.photos import make_photos
from tests.runs import epochs, write_config


def prepared(config: Config) -> PreparedRun:
    return prepare_run(config, resume=False, overwrite=False, terminal=Terminal.silent())


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return write_config(tmp_path, make_photos(tmp_path / "photos", 12))


def test_a_run_of_few_photos_comes_to_its_report_without_a_cluster(tiny: Path) -> None:
    run = prepared(load_config(tiny, {"train.workers": "auto", "train.epochs": 2, "data.split": "stratified"}))
    assert not needs_ray(run)
    done = run_all(run, tiny.read_text(), terminal=Terminal.silent())
    assert not is_connected()
    folder = tiny.parent / "runs" / "tiny"
    assert epochs(folder) == [1, 2]
    assert json.loads((folder / "evaluation.json").read_text())["n"] == done["evaluation"]["n"] > 0
    for left in ("report.html", "audit.json", "checkpoint/COMPLETE", "predictions.parquet"):
        assert (folder / left).exists()


@pytest.mark.parametrize("changes", [{"train.workers": 1}, {"data.cache": "stream"}])
def test_workers_and_a_stream_of_photos_need_one(tiny: Path, changes: dict[str, object]) -> None:
    assert needs_ray(prepared(load_config(tiny, changes)))
