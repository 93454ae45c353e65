"""A run that loses a worker, is told to stop, and goes on; `tests/integration/test_kills.py` kills whole runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.command import kill, run, start, wait_until
from tests.photos import make_photos
from tests.processes import living
from tests.runs import epochs, settings, write_config


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("photos"), 12)


@pytest.fixture(scope="module")
def endless(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Train on two workers for longer than any test takes."""
    folder = tmp_path_factory.mktemp("endless")
    changes = settings(train__workers=2, train__epochs=500)
    child = start("train", write_config(folder, photos), *changes, RAY_TRASH_TRACEBACK="")
    yield child, folder / "runs" / "tiny"
    if child.poll() is None:
        kill(child)


def test_a_killed_worker_is_replaced_and_training_goes_on(endless: tuple[subprocess.Popen[str], Path]) -> None:
    child, runs = endless
    wait_for_epoch(2, runs, child)
    os.kill(living("RayTrainWorker", below=child.pid)[-1], signal.SIGKILL)
    wait_for_epoch(max(epochs(runs)) + 2, runs, child)
    assert epochs(runs) == list(range(1, len(epochs(runs)) + 1))


def test_sigterm_ends_the_command_and_every_process_it_started(endless: tuple[subprocess.Popen[str], Path]) -> None:
    child, runs = endless
    wait_for_epoch(1, runs, child)
    session = os.getsid(child.pid)
    child.send_signal(signal.SIGTERM)
    out, err = child.communicate(timeout=15)
    assert child.returncode == 128 + signal.SIGTERM, err
    assert "--resume" in err
    # Of the worker that was killed before, Ray says much on both streams.
    assert not out
    assert not [line for line in err.splitlines() if "raylet" in line or ".cc:" in line]
    wait_until(lambda: not living(session=session), timeout_s=15, what="Ray's processes to end")
    assert json.loads((runs / "run.json").read_text())["status"] == "interrupted"


def test_a_run_that_lost_a_worker_and_was_told_to_stop_ends_well(endless: tuple[subprocess.Popen[str], Path]) -> None:
    child, runs = endless
    assert child.poll() == 128 + signal.SIGTERM, "the test before this one ends it"
    last = len(epochs(runs)) + 1
    finished = run("train", runs.parents[1] / "tiny.yaml", *settings(train__epochs=last), "--resume")
    assert finished.returncode == 0, finished.stderr
    assert epochs(runs) == list(range(1, last + 1))
    assert json.loads((runs / "run.json").read_text())["status"] == "done"


def wait_for_epoch(number: int, runs: Path, child: subprocess.Popen[str]) -> None:
    """Wait until a run has written an epoch, and no longer than it lives."""
    wait_until(lambda: number in epochs(runs) or child.poll() is not None, timeout_s=360, what=f"epoch {number}")
    assert child.poll() is None, child.communicate()[1]
