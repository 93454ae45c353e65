"""The whole of `plan`, on a few photos and a small network, without Ray."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import ray_trash.plan.run as plan_run
from ray_trash.cli import main
from ray_trash.plan import measure
from ray_trash.terminal.say import Terminal
from tests.photos import make_photos

CONFIG = """
name: small
storage: {storage}
data: {{root: {root}, split: stratified, val_fraction: 0.3}}
image: {{size_px: 32, stored_short_side_px: 40}}
model: {{weights: none}}
train: {{epochs: 2, workers: 1, batch_size_per_worker: 8, learning_rate: 1.0e+30, device: cpu}}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(measure, "LEAST_STEPS_S", 0.01)
    monkeypatch.setattr(measure, "STEPS_S", 0.01)
    make_photos(tmp_path / "photos", 10)
    path = tmp_path / "small.yaml"
    path.write_text(CONFIG.format(storage=tmp_path / "runs", root=tmp_path / "photos"))
    return path


def planned(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[dict[str, Any], str]:
    assert main(["plan", *arguments, "--json"]) == 0
    said = capfd.readouterr()
    return json.loads(said.out), said.err


def test_a_plan_is_made_without_ray_says_what_is_needed_and_writes_nothing(
    config: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import ray

    before = {path: path.stat().st_mtime_ns for path in config.parent.rglob("*")}
    document, said = planned(capfd, str(config))
    assert not ray.is_initialized()
    assert {path: path.stat().st_mtime_ns for path in config.parent.rglob("*")} == before
    assert (document["kind"], document["photos"]["files"], document["photos"]["kept"]) == ("run", 30, "in memory")
    assert document["photos"]["gpu_memory_share"] is None
    # 40 by 53 pixels, as they are stored.
    assert document["photos"]["decoded_bytes"] == 30 * 40 * 53 * 3
    assert document["training"]["epochs"] == 2
    assert document["checkpoints"]["kept_by_a_run"] == 2
    assert document["measured"]["paces"][0]["step_s"] > 0
    found = document["estimate"]
    assert found["seconds"] == pytest.approx(sum(part["seconds"] for part in found["parts"]), abs=0.3)
    for word in ("this machine", "30 files of 3 classes", "2 epochs", "all of it, about"):
        assert word in said, said


def test_a_sweep_is_planned_with_its_trials(config: Path, capfd: pytest.CaptureFixture[str]) -> None:
    space = "tune.space={model.frozen_stages: {choice: [0, 4]}, model.dropout: {uniform: [0.0, 0.5]}}"
    changes = ("tune.trials=3", space, "augment.views=1", "tune.verdict_seeds=1")
    document, said = planned(capfd, str(config), *(word for change in changes for word in ("--set", change)))
    assert document["kind"] == "sweep"
    assert document["sweep"]["trials"] == 3
    assert document["activations"]["n_bytes"] > 0
    assert {pace["activations_s"] > 0 for pace in document["measured"]["paces"]} == {True, False}
    assert "3 trials over model.frozen_stages, model.dropout" in said


def test_what_a_run_would_trip_over_later_is_a_warning(config: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (config.parent / "runs" / "small").mkdir(parents=True)
    (config.parent / "runs" / "small" / "run.json").write_text("{}")
    document, said = planned(capfd, str(config), "--set", "model.weights=none.safetensors", "--set", "train.workers=2")
    first, weights, workers = document["warnings"][-3:]
    assert "there is a run of this name already" in first
    assert "nothing is there" in weights
    assert "exchange their gradients" in workers
    assert said.count("warning: ") == len(document["warnings"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("train.workers=64", "train.workers=64 asks for 32 CPUs"),
        ("train.device=cuda", "GPU"),
    ],
)
def test_what_cannot_be_had_ends_as_the_clusters_exit_code(
    config: Path, change: str, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", str(config), "--set", change]) == 6
    error = capfd.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1


def test_checkpoints_that_find_no_room_are_refused(
    config: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan_run, "_free_bytes", lambda place: 1 << 10)
    assert main(["plan", str(config)]) == 6
    assert "checkpoints take up to" in capfd.readouterr().err


def test_photos_that_cannot_be_decoded_are_refused(config: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for photo in (config.parent / "photos").rglob("*.jpg"):
        photo.write_bytes(b"no photo")
    assert main(["plan", str(config)]) == 3
    assert "no photo can be used" in capfd.readouterr().err


def test_a_narrow_terminal_shows_every_row(config: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    from ray_trash.terminal.plan_table import print_plan

    document, _ = planned(capfd, str(config))
    console = Console(record=True, width=60)
    print_plan({**document, "warnings": ["odd [names]"]}, Terminal(console))
    assert "warning: odd [names]" in console.export_text()
