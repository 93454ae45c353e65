"""Workers and drivers killed at every kind of moment, and what the runs end with."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ray_trash.model.checkpoint import open_checkpoint
from tests.e2e.cluster import Cluster
from tests.e2e.command import kill, run, start, wait_until, worker_pids
from tests.e2e.endpoint import processes_of
from tests.photos import make_photos
from tests.runs import epochs, settings, write_config


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("photos"), 12)


@pytest.fixture(scope="module")
def endless(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Train on two workers for longer than any test takes."""
    folder = tmp_path_factory.mktemp("endless")
    child = start("train", write_config(folder, photos), *settings(train__workers=2, train__epochs=500))
    yield child, folder / "runs" / "tiny"
    if child.poll() is None:
        kill(child)


def test_a_killed_worker_is_replaced_and_training_goes_on(endless: tuple[subprocess.Popen[str], Path]) -> None:
    child, runs = endless
    wait_for_epoch(2, runs, child)
    os.kill(worker_pids(child.pid)[-1], signal.SIGKILL)
    wait_for_epoch(max(epochs(runs)) + 2, runs, child)
    assert epochs(runs) == list(range(1, len(epochs(runs)) + 1))


def test_sigterm_ends_the_command_and_every_process_it_started(endless: tuple[subprocess.Popen[str], Path]) -> None:
    child, runs = endless
    wait_for_epoch(1, runs, child)
    session = os.getsid(child.pid)
    child.send_signal(signal.SIGTERM)
    _, err = child.communicate(timeout=15)
    assert child.returncode == 128 + signal.SIGTERM, err
    assert "--resume" in err
    wait_until(lambda: not processes_of(session), timeout_s=15, what="Ray's processes to end")
    assert json.loads((runs / "run.json").read_text())["status"] == "interrupted"


def test_a_run_that_lost_a_worker_and_was_told_to_stop_ends_well(
    endless: tuple[subprocess.Popen[str], Path], cluster: Cluster
) -> None:
    child, runs = endless
    assert child.poll() == 128 + signal.SIGTERM, "the test before this one ends it"
    last = len(epochs(runs)) + 1
    finished = run("train", runs.parents[1] / "tiny.yaml", *settings(train__epochs=last), "--resume", **cluster.joined)
    assert finished.returncode == 0, finished.stderr
    assert epochs(runs) == list(range(1, last + 1))
    assert json.loads((runs / "run.json").read_text())["status"] == "done"


RICH = settings(
    train__epochs=8,
    train__ema_decay=0.9,
    train__warmup_steps=3,
    model__frozen_stages=2,
    model__dropout=0.3,
    augment__mixup_alpha=0.5,
    augment__preset="strong",
)
"""Everything that a run remembers from step to step, or draws."""


@pytest.fixture(scope="module")
def unbroken(photos: Path, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    finished = run("train", write_config(folder, photos), *RICH, **cluster.joined)
    assert finished.returncode == 0, finished.stderr
    return folder / "runs" / "tiny"


@pytest.fixture(scope="module")
def broken(photos: Path, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kill a run ten times, go on with it each time, and let it end."""
    folder, draw = tmp_path_factory.mktemp("broken"), random.Random(7)
    runs = folder / "runs" / "tiny"
    arguments = ["train", write_config(folder, photos), *RICH, "--resume"]
    # Moments of a start-up, from nothing to the first step; and moments around an epoch's end, where the
    # checkpoint, the best one, the metrics and the clearing away of old ones are written.
    moments = [("start", draw.uniform(0.5, 7)) for _ in range(6)] + [("epoch", draw.uniform(0, 1)) for _ in range(3)]
    moments.append(("write", 0.0))
    draw.shuffle(moments)
    for since, delay_s in moments:
        child = start(*arguments, **cluster.joined)
        if since == "epoch":
            wait_for_epoch(len(epochs(runs)) + 1, runs, child)
        elif since == "write":
            kill_inside_a_write(runs, child)
            continue
        try:
            out, err = child.communicate(timeout=delay_s)
        except subprocess.TimeoutExpired:
            kill(child)
        else:
            # Where start-up is quick, the last kills may come too late; what has ended must have ended well.
            assert child.returncode == 0, out + err
    finished = run(*arguments, **cluster.joined)
    assert finished.returncode == 0, finished.stderr
    return runs


def wait_for_epoch(number: int, runs: Path, child: subprocess.Popen[str]) -> None:
    """Wait until a run has written an epoch, and no longer than it lives."""
    wait_until(lambda: number in epochs(runs) or child.poll() is not None, timeout_s=360, what=f"epoch {number}")
    assert child.poll() is None, child.communicate()[1]


def kill_inside_a_write(runs: Path, child: subprocess.Popen[str]) -> None:
    """Kill a run, and what writes for it, while a checkpoint is half there."""

    def half_written() -> list[Path]:
        return list((runs / "checkpoints").glob(".epoch-*"))

    old = half_written()

    def writing() -> bool:
        return half_written() not in ([], old) or child.poll() is not None

    wait_until(writing, timeout_s=360, what="a checkpoint's write")
    # The worker first, since it writes, and would end its write if it outlived its driver.
    for pid in worker_pids(child.pid):
        os.kill(pid, signal.SIGKILL)
    kill(child)
    assert half_written(), "the write was over before the kill"


def test_a_driver_killed_again_and_again_ends_with_every_epoch_once(broken: Path) -> None:
    assert epochs(broken) == list(range(1, 9))


def test_a_kill_inside_a_checkpoint_s_write_leaves_nothing_of_it(broken: Path) -> None:
    assert not list((broken / "checkpoints").glob(".epoch-*"))


def test_resume_on_one_worker_equals_an_unbroken_run_to_the_bit(broken: Path, unbroken: Path) -> None:
    timing = ("seconds", "images_per_s")
    logs = []
    for runs in (unbroken, broken):
        lines = (runs / "metrics.jsonl").read_text().splitlines()
        logs.append([{k: v for k, v in json.loads(line).items() if k not in timing} for line in lines])
    assert logs[0] == logs[1]
    names = [max(path.name for path in (runs / "checkpoints").iterdir()) for runs in (unbroken, broken)]
    assert names[0] == names[1]
    folders = [runs / "checkpoints" / names[0] for runs in (unbroken, broken)]
    weights = [(folder / "weights.safetensors").read_bytes() for folder in folders]
    assert weights[0] == weights[1]
    first, second = (open_checkpoint(folder, with_trainer=True).trainer() for folder in folders)
    assert first["optimizer"]["param_groups"] == second["optimizer"]["param_groups"]
    for ours, others in (
        (first["optimizer"]["state"], second["optimizer"]["state"]),
        (first["network"], second["network"]),
        (first["val_probabilities"], second["val_probabilities"]),
    ):
        torch.testing.assert_close(ours, others, rtol=0, atol=0)
