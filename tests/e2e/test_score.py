"""Scorings whose workers or drivers are killed."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pyarrow.parquet as pq

from tests.e2e.command import kill, run, start, wait_until
from tests.e2e.endpoint import command_line, processes_of
from tests.models import write_model
from tests.photos import make_photos


def test_a_killed_worker_is_replaced_and_a_killed_scoring_goes_on_with_no_row_twice(tmp_path: Path) -> None:
    write_model(tmp_path / "model", size_px=96)
    photos = make_photos(tmp_path / "photos", 500)
    out, parts = tmp_path / "out.parquet", tmp_path / "out.parquet.parts"
    arguments = ("score", tmp_path / "model", photos, "--out", out)
    child = start(*arguments)

    def wait_for_parts(n: int) -> None:
        def are_there() -> bool:
            return len(list(parts.glob("0*.parquet"))) >= n or child.poll() is not None

        wait_until(are_there, timeout_s=240, what=f"{n} parts")
        assert child.poll() is None, child.communicate()[1]

    wait_for_parts(1)
    (worker,) = [pid for pid in processes_of(os.getsid(child.pid)) if b"MapWorker" in command_line(pid)]
    os.kill(worker, signal.SIGKILL)
    wait_for_parts(2)
    kill(child)
    made = {path.name: path.stat().st_mtime_ns for path in parts.glob("0*.parquet")}
    assert 2 <= len(made) < 6
    assert not out.exists()
    finished = run(*arguments, "--json")
    assert finished.returncode == 0, finished.stderr
    assert f"going on: {len(made)} of 6 parts" in finished.stderr
    assert json.loads(finished.stdout)["n"] == 1500
    expected = sorted(str(path.relative_to(photos)) for path in photos.rglob("*.jpg"))
    assert pq.read_table(out)["path"].to_pylist() == expected
    assert not parts.exists()
