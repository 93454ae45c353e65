"""What is wrong with a command line before any command looks at it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ray_trash.arguments import build_parser


@pytest.mark.parametrize("arguments", [["audit", b"\xff/photos"], ["evaluate", "a", "--data", "b", "--out", b"\xff"]])
def test_a_name_that_is_not_utf8_is_one_line(arguments: list[str | bytes]) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "ray_trash", *arguments], capture_output=True, check=False, timeout=60
    )
    assert result.returncode == 2
    (line,) = result.stderr.decode().splitlines()
    assert line.startswith("error: \\xff")
    assert "not UTF-8" in line


@pytest.mark.parametrize(
    ("line", "way_on"),
    [
        ("run configs/quickstart.yaml", "To continue: the same command with --resume."),
        ("score checkpoint a.jpg --out scores.csv", "To continue: the same command."),
        ("quantize checkpoint --data photos --out checkpoint8", ""),
    ],
)
def test_a_command_that_is_stopped_names_only_a_way_on_that_it_has(line: str, way_on: str) -> None:
    assert build_parser().parse_args(line.split()).way_on == way_on
