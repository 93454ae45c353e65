"""The README's quick start and the tutorial, as a newcomer would; `tests/unit/test_readme.py` has other commands."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from tests.runs import Command, Finished, settings

ROOT = Path(__file__).parents[2]
SMALLER = {
    "sample": ("--per-class", "8"),
    "run": (*settings(train__epochs=1, train__steps_per_epoch=2, tune__trials=2, model__frozen_stages=4),),
}
"""The whole recipe takes minutes; fewer photos, and an epoch of two trials, run the same commands."""
SMALLER_TUTORIAL = {
    "sample": ("--per-class", "8"),
    "run": (*settings(train__epochs=1, model__weights="none", model__frozen_stages=5, augment__views=1),),
}


def test_the_commands_of_the_quick_start_run_as_they_stand(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, by_hand = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    lines = [shlex.split(line) for line in by_hand.splitlines()]
    assert [line[:2] for line in lines] == [
        [".venv/bin/ray-trash", name] for name in ("sample", "audit", "run", "evaluate", "score")
    ]
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    for _, name, *arguments in lines:
        finished = command(name, *arguments, *SMALLER.get(name, ()))
        assert finished.code == 0, finished.err
    run = tmp_path / "runs" / "mine"
    evaluation, page = json.loads((run / "evaluation.json").read_text()), (run / "report.html").read_text()
    right = f"{evaluation['correct']}/{evaluation['n']}"
    for part in ("audit", "curves", "sweep", "result", "answers", "record"):
        assert f'id="{part}"' in page
    assert right in page
    assert right in (run / "checkpoint" / "model_card.md").read_text()
    assert right in (run / "test" / "report.html").read_text()
    assert (tmp_path / "runs" / "mine" / "test" / "predictions.parquet").exists()
    assert (tmp_path / "runs" / "mine" / "scored.parquet").exists()


def test_the_tutorial_can_be_followed_word_by_word(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    lines = [
        shlex.split(line) for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL) for line in block.splitlines()
    ]
    assert {line[0] for line in lines} == {"ray-trash"}
    monkeypatch.chdir(tmp_path)
    said: dict[str, Finished] = {}
    for _, name, *arguments in lines:
        finished = command(name, *arguments, *SMALLER_TUTORIAL.get(name, ()))
        assert finished.code == 0, (name, finished.err)
        said.setdefault(name, finished)
    run = tmp_path / "runs" / "photos"
    written = (run / "config.yaml").read_text()
    assert "image.size_px=64: " in said["run"].err
    assert "all of it takes about" in said["run"].err
    assert "# image.size_px: " in written
    assert "time_budget_min" in written
    for left in ("report.html", "test/evaluation.json", "maps/explanations.json", "../compare.html", "../answers.csv"):
        assert (run / left).exists(), left
    assert "cardboard/" in (tmp_path / "runs" / "answers.csv").read_text()
