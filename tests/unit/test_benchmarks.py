"""The table of all benchmarks: who is in it, at what size, and what becomes of one that fails."""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path

import pytest
import torch

import benchmarks.__main__ as runner
from benchmarks.figures import Figure, conclude, figures_in, ratio
from benchmarks.ingest_speed import Photos
from tests.photos import make_photos

FOLDER = Path(runner.__file__).parent
NOT_OF_THEIR_OWN = {"__main__", "gpu_speed", "litserve_endpoint", "object_store", "recipe_folds"}
"""The table itself, what `--gpu` runs, what others start, and what judges recipes for hours."""


@pytest.mark.parametrize("cpus", [1, 2, 64])
def test_every_benchmark_is_listed_with_arguments_that_it_has_and_all_take_half_an_hour(cpus: int) -> None:
    listed = runner.suite(cpus)
    begun = {path.stem for path in FOLDER.glob("*.py") if '__name__ == "__main__"' in path.read_text()}
    assert sorted(each.name for each in listed) == sorted(begun - NOT_OF_THEIR_OWN)
    assert sum(each.minutes for each in listed if not each.by_name) <= runner.ALL_MINUTES
    for each in listed:
        source = (FOLDER / f"{each.name}.py").read_text()
        for flag in re.findall(r"--[a-z-]+", each.arguments):
            assert f'"{flag}"' in source, f"{each.name} {flag}"


def test_figures_are_printed_for_people_and_read_back_by_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    figures = [ratio("a over b", 9.0, 10.0, at_least=0.95), Figure("waited", 0.2, "s", at_most=0.3), Figure("n", 3)]
    with pytest.raises(SystemExit) as ended:
        conclude(figures, {"rounds": 2})
    assert ended.value.code == 1
    said = capsys.readouterr().out
    assert "| a over b | 9 | 10 | 0.9 | at least 0.95 | photos/s | FAIL |" in said
    assert "| waited |  |  | 0.2 | at most 0.3 | s | pass |" in said
    assert "| n |  |  | 3 |  |  |  |" in said
    assert "1 of 3 figures are beyond their limits" in said
    assert json.loads(said.splitlines()[-1])["rounds"] == 2
    assert figures_in(said) == figures
    assert figures_in("Traceback") == figures_in("") == figures_in('{"figures": 3}') == []


def test_what_is_no_number_is_within_no_limit() -> None:
    assert not Figure("a", math.nan, at_most=1).holds
    assert not Figure("a", math.nan, at_least=1).holds
    assert Figure("a", math.nan).holds


def a_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], **ends: tuple[int | None, str, str]
) -> tuple[int, str]:
    monkeypatch.setattr(runner, "suite", lambda cpus: [runner.Benchmark(name, "", 1.0) for name in ends])
    monkeypatch.setattr(runner, "run_for", lambda command, timeout_s: ends[command[2].removeprefix("benchmarks.")])
    code = runner.main([])
    return code, capsys.readouterr().out


def test_one_that_fails_is_a_row_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fine = json.dumps({"figures": [{"what": "speed", "value": 2.0, "unit": "photos/s", "at_least": 1.0}]})
    code, said = a_table(
        monkeypatch, capsys, a=(1, "", "Traceback\nOSError: no | room\n"), b=(None, fine, ""), c=(0, fine + "\n", "")
    )
    assert code == 1
    assert "| a | failed with 1: OSError: no / room |" in said
    assert "| b | given up after 4.0 min |" in said
    assert "| c | speed |  |  | 2 | at least 1 | photos/s | pass |" in said
    assert "cores of" in said
    assert f"torch {torch.__version__.partition('+')[0]}" in said
    assert a_table(monkeypatch, capsys, c=(0, fine, ""))[0] == 0


def test_what_there_is_no_time_for_is_not_begun() -> None:
    outcome = runner.measured(runner.Benchmark("a", "", 5.0), deadline_s=-math.inf)
    assert not outcome.is_well
    assert outcome.rows[0][1] == "not run: no time is left; `--only a`"


def test_a_command_is_ended_with_all_that_it_started() -> None:
    script = "import subprocess, sys, time; print(7, flush=True); subprocess.Popen(['sleep', '600']); time.sleep(600)"
    code, _, _ = runner.run_for([sys.executable, "-c", script], 1.0)
    assert code is None
    code, stdout, stderr = runner.run_for([sys.executable, "-c", "import sys; print(1); sys.exit('no')"], 60.0)
    assert (code, stdout, stderr) == (1, "1\n", "no\n")


def test_photos_whose_way_is_timed_are_those_of_a_data_root_and_each_epoch_sees_them_anew(tmp_path: Path) -> None:
    photos = Photos.of(str(make_photos(tmp_path, 3)), 4, batch_photos=3, size_px=32)
    assert len(set(photos.table.paths)) == len(photos) == 4
    assert [len(batch) for batch in photos.batches(epoch=0)] == [3, 1]
    assert photos[0, 1].shape == (32, 32, 3)
    assert any((photos[0, row] != photos[1, row]).any() for row in range(4))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_its_table_says_so_and_ends_with_6(capsys: pytest.CaptureFixture[str]) -> None:
    assert runner.main(["--gpu"]) == 6
    assert "no CUDA GPU here" in capsys.readouterr().err
