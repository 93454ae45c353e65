"""The README's commands, run as a newcomer would."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ray_trash.arguments import build_parser

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_commands_of_the_quick_start_run_as_they_stand(tmp_path: Path) -> None:
    by_hand = blocks("bash")[1]
    assert by_hand.count("ray-trash") == 5
    (tmp_path / ".venv").symlink_to(Path(sys.prefix))
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    # The whole recipe takes minutes; fewer photos, and an epoch of two trials, run the same commands.
    quick = by_hand.replace("sample --to data/sample", "sample --to data/sample --per-class 8").replace(
        "--set name=mine", "--set name=mine --set train.epochs=1 --set tune.trials=2 --set model.frozen_stages=4"
    )
    assert quick.count("--per-class") == quick.count("tune.trials=2") == 1
    finished = subprocess.run(
        ["bash", "-ec", quick],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=560,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert (tmp_path / "runs" / "mine" / "evaluation.json").exists()
    assert (tmp_path / "runs" / "mine" / "test" / "predictions.parquet").exists()
    assert (tmp_path / "runs" / "mine" / "scored.parquet").exists()


def test_make_has_the_targets_the_readme_names() -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in set(re.findall(r"\bmake ([a-z]+)", README)):
        assert f"  {target} " in listed


@pytest.mark.parametrize(
    "line", [line for block in blocks("console") for line in block.splitlines() if "ray-trash" in line]
)
def test_every_other_command_is_one_the_program_takes(line: str) -> None:
    words = line[line.index("ray-trash") :].partition("#")[0].split()
    options = build_parser().parse_args(words[1:])
    if "config" in vars(options):
        assert (ROOT / options.config).exists()


def test_every_documented_command_exists_and_help_answers_at_once() -> None:
    named = set(re.findall(r"^\| `([a-z]+)", README, re.MULTILINE))
    answer = subprocess.run(
        [sys.executable, "-m", "ray_trash", "--help"],
        capture_output=True,
        text=True,
        timeout=30,
        env=os.environ,
        check=True,
    )
    assert named
    assert all(f"    {name} " in answer.stdout for name in named), answer.stdout
