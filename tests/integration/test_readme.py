"""The README's quick start, by hand, as a newcomer would; `tests/unit/test_readme.py` has its other commands."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from tests.runs import Command

ROOT = Path(__file__).parents[2]
SMALLER = {
    "sample": ("--per-class", "8"),
    "run": ("--set", "train.epochs=1", "--set", "tune.trials=2", "--set", "model.frozen_stages=4"),
}
"""The whole recipe takes minutes; fewer photos, and an epoch of two trials, run the same commands."""


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
