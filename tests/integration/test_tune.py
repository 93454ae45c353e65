"""A sweep on a shared local Ray: losing trials stop, failing ones hurt nobody, and the winner is doubted."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ray_trash.config import load_config
from ray_trash.model.checkpoint import open_checkpoint
from tests.processes import living
from tests.runs import Command, epochs, error_line, settings, write_config

pytestmark = pytest.mark.usefixtures("ray_cluster")

SWEEP = """
# What is searched, and why, is said in comments that people want to keep.
name: sweep
seed: 3
image: {size_px: 32, stored_short_side_px: 48}
augment: {preset: dihedral, views: 2}
model: {weights: none, frozen_stages: 5}
train:
  epochs: 4
  batch_size_per_worker: 8
  learning_rate: 1.0e-3  # as written
  select_by: val_loss
  cache_frozen_dir: "CACHE"
tune:
  trials: 4
  max_concurrent_trials: 1
  reduction_factor: 2
  verdict_seeds: 0
  search: grid
  space:
    train.learning_rate: {choice: [1.0e-8, 2.0e-8, 3.0e-8]}
data: {root: "REPLACED"}
"""


def sweep_config(folder: Path, photos: Path) -> Path:
    return write_config(folder, photos, SWEEP.lstrip().replace("CACHE", str(folder / "cache")))


def trials(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((folder / "runs" / "sweep" / "trials.json").read_text())
    return rows


def wait_for_released_resources() -> None:
    import ray
    from ray.util import placement_group_table

    deadline = time.monotonic() + 30
    while ray.available_resources().get("CPU") != ray.cluster_resources()["CPU"]:
        assert time.monotonic() < deadline, ray.available_resources()
        time.sleep(0.2)
    left = [group for group in placement_group_table().values() if group["state"] != "REMOVED"]
    assert left == []


@pytest.fixture(scope="module")
def swept(ray_cluster: None, tiny_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sweep three learning rates that learn nothing, after the one as written. Returns the folder, only to be read."""
    from ray_trash.terminal.say import Terminal
    from ray_trash.tune.sweep import prepare_sweep, run_sweep

    folder = tmp_path_factory.mktemp("swept")
    path = sweep_config(folder, tiny_photos)
    terminal = Terminal.silent()
    prepared = prepare_sweep(load_config(path), resume=False, overwrite=False, terminal=terminal)
    run_sweep(prepared, path.read_text(), terminal=terminal)
    return folder


def test_losing_trials_stop_early_and_the_next_ones_start(swept: Path) -> None:
    rows = trials(swept)
    assert [row["trial"] for row in rows] == [0, 1, 2, 3]
    assert rows[0]["params"] == {"train.learning_rate": 1e-3}
    assert rows[0]["status"] == "done"
    assert rows[0]["epochs_run"] == 4
    assert sum(row["status"] == "pruned" for row in rows) >= 2
    for row in rows:
        run = swept / "runs" / "sweep" / row["run"]
        assert epochs(run) == list(range(1, row["epochs_run"] + 1))
        if row["status"] == "pruned":
            assert row["epochs_run"] < 4
            assert "stopped by the scheduler" in row["stop_reason"]
    wait_for_released_resources()


def test_a_sweep_leaves_what_the_contract_promises(swept: Path) -> None:
    run = swept / "runs" / "sweep"
    best = min(trials(swept), key=lambda row: row["best_value"])
    assert open_checkpoint(run / "checkpoint").document.config["train"]["learning_rate"] == pytest.approx(
        best["params"]["train.learning_rate"]
    )
    written, found = (swept / "tiny.yaml").read_text().splitlines(), (run / "best_config.yaml").read_text().splitlines()
    changed = [(old, new) for old, new in zip(written, found, strict=True) if old != new]
    assert all("learning_rate" in old and "as written" in new for old, new in changed)
    assert load_config(run / "best_config.yaml").train.learning_rate == best["params"]["train.learning_rate"]
    assert json.loads((run / "run.json").read_text())["status"] == "done"
    assert json.loads((run / "audit.json").read_text())["counts"]["seen"] == 36
    assert json.loads((run / "verdict.json").read_text())["summary"].startswith("trained ")


def test_trials_share_the_activations_of_the_frozen_stages(swept: Path) -> None:
    (one,) = (swept / "cache").iterdir()
    assert {path.name.split("-")[0] for path in one.iterdir()} == {"train", "val"}


def test_the_winner_is_evaluated_like_any_checkpoint(command: Command, swept: Path, tiny_photos: Path) -> None:
    checkpoint = swept / "runs" / "sweep" / "checkpoint"
    result = command("evaluate", checkpoint, "--data", tiny_photos, "--split", "test", "--out", swept / "out", "--json")
    assert result.code == 0, result.err
    evaluation = json.loads(result.out)
    assert evaluation["n"] > 0
    # The report has what is beside the checkpoint too, here the sweep that left it.
    page = (swept / "out" / "report.html").read_text()
    assert f"{evaluation['correct']}/{evaluation['n']}" in page
    assert 'id="sweep"' in page


def test_finalists_train_again_with_other_seeds_and_noise_is_called_noise(
    command: Command, swept: Path, tiny_photos: Path, tmp_path: Path
) -> None:
    config = sweep_config(tmp_path, tiny_photos)
    # Two learning rates that differ by a hundredth cannot be told apart on a handful of photos.
    space = "{train.learning_rate: {choice: [1.01e-3]}}"
    result = command(
        "tune",
        config,
        "--json",
        *settings(tune__space=space, tune__verdict_seeds=2, tune__finalists=1, train__epochs=2),
        *("--set", f"train.cache_frozen_dir={swept / 'cache'}"),
    )
    assert result.code == 0, result.err
    assert "a view of a photo), computed before" in result.err
    run = tmp_path / "runs" / "sweep"
    assert sorted(path.name for path in (run / "finals").iterdir()) == [
        f"{trial:03d}-seed-{seed}" for trial in (0, 1) for seed in (4, 5)
    ]
    verdict = json.loads(result.out)["verdict"]
    assert verdict["winner"] == 0
    assert verdict["comparisons"]["1"]["significant"] is False
    assert verdict["seed_numbers"] == [4, 5]
    assert "no significant gain over the config as written" in result.err
    assert load_config(run / "best_config.yaml").train.learning_rate == 1e-3


def test_trials_that_diverge_or_raise_do_not_hurt_the_others(
    command: Command, tiny_photos: Path, tmp_path: Path
) -> None:
    config = sweep_config(tmp_path, tiny_photos)
    # More batches a step than there are photos leave batches of one, which a trial refuses once it knows its photos.
    space = "{train.learning_rate: {choice: [1.0e+30]}, train.accumulate_batches: {choice: [1, 100]}}"
    result = command(
        "tune",
        config,
        *settings(tune__space=space, tune__scheduler="none", train__epochs=2, model__frozen_stages=4, tune__trials=3),
        *("--set", "tune.max_concurrent_trials=2"),
    )
    assert result.code == 0, result.err
    by_point = {tuple(row["params"].values()): row for row in trials(tmp_path)}
    assert by_point[1e-3, 1]["status"] == "done"
    assert by_point[1e30, 1]["status"] == "failed"
    assert "diverged" in by_point[1e30, 1]["stop_reason"]
    assert by_point[1e30, 100]["status"] == "failed"
    assert "leave a batch of one" in by_point[1e30, 100]["stop_reason"]
    assert open_checkpoint(tmp_path / "runs" / "sweep" / "checkpoint").document.epoch >= 1
    wait_for_released_resources()


def test_a_sweep_in_which_everything_fails_says_why(command: Command, tiny_photos: Path, tmp_path: Path) -> None:
    config = sweep_config(tmp_path, tiny_photos)
    space = "{train.learning_rate: {choice: [1.0e+29]}}"
    result = command("tune", config, *settings(tune__space=space, train__learning_rate="1.0e+30", tune__trials=2))
    assert result.code == 5
    line = error_line(result.err)
    assert "all 2 trials failed" in line
    assert line.count("diverged") == 2
    assert not (tmp_path / "runs" / "sweep" / "checkpoint").exists()


def test_a_trial_whose_process_dies_goes_on_where_it_was(command: Command, tiny_photos: Path, tmp_path: Path) -> None:
    config = sweep_config(tmp_path, tiny_photos)
    first = tmp_path / "runs" / "sweep" / "trials" / "000"
    killed: list[int] = []

    def kill_after_the_first_epoch() -> None:
        deadline = time.monotonic() + 120
        while not epochs(first) and time.monotonic() < deadline:
            time.sleep(0.02)
        for pid in living("ImplicitFunc", below=os.getpid()):
            killed.append(pid)
            os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=kill_after_the_first_epoch)
    thread.start()
    result = command("tune", config, *settings(train__epochs=8, tune__trials=1))
    thread.join()
    assert killed
    assert result.code == 0, result.err
    assert epochs(first) == list(range(1, 9))
    assert trials(tmp_path)[0]["status"] == "done"


@pytest.mark.parametrize(
    ("changes", "code", "says"),
    [
        ({"tune__space": "{model.droput: {choice: [0.1]}}"}, 2, "did you mean model.dropout?"),
        ({"tune__space": "{model.dropout: {uniform: [0, 2]}}"}, 2, "model.dropout"),
        ({"tune__space": "{data.split: {choice: [grouped]}}"}, 2, "once for the whole sweep"),
        ({"tune__space": "{model.dropout: {between: [0, 1]}}"}, 2, "between"),
        ({"tune__max_concurrent_trials": 64}, 6, "room for"),
        ({"train__workers": 64}, 6, "the cluster has"),
    ],
)
def test_what_cannot_be_swept_is_refused_before_anything_starts(
    command: Command, tiny_photos: Path, tmp_path: Path, changes: dict[str, Any], code: int, says: str
) -> None:
    # As many trials as may run at once, or the limit would mean less than it says.
    trials_wanted = {
        "tune__trials": 64,
        "tune__search": "random",
        "tune__space": "{model.dropout: {uniform: [0, 0.5]}}",
    }
    result = command("tune", sweep_config(tmp_path, tiny_photos), *settings(**{**trials_wanted, **changes}))
    assert result.code == code, result.err
    assert says in error_line(result.err)
    assert not (tmp_path / "runs" / "sweep").exists()


def test_optuna_starts_from_the_config_as_written(command: Command, tiny_photos: Path, tmp_path: Path) -> None:
    config = sweep_config(tmp_path, tiny_photos)
    space = "{train.learning_rate: {loguniform: [1.0e-2, 1.0e-1]}, model.dropout: {uniform: [0, 0.5]}}"
    result = command(
        "tune", config, *settings(tune__space=space, tune__search="optuna", tune__trials=3, train__epochs=1)
    )
    assert result.code == 0, result.err
    rows = trials(tmp_path)
    assert [row["trial"] for row in rows] == [0, 1, 2]
    assert rows[0]["params"] == {"train.learning_rate": 1e-3, "model.dropout": 0.0}
    assert all(1e-2 <= row["params"]["train.learning_rate"] <= 1e-1 for row in rows[1:])
